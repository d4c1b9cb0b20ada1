"""``python -m fuzz TARGET [libFuzzer's options]``; without a target: their names, one a line."""

import sys

import atheris


def main() -> None:
    """Fuzz one target until libFuzzer's options, or a defect, end it."""
    with atheris.instrument_imports(include=["entrepot", "tarfile", "zipfile"]):
        from fuzz.targets import TARGETS  # what is imported here is watched for coverage
    names = sys.argv[1:2]
    if not names or names[0] not in TARGETS:
        print("\n".join(TARGETS))
        sys.exit(2 if names else 0)
    target = TARGETS[names[0]]

    def one_input(data: bytes) -> None:
        target.feed(data)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
