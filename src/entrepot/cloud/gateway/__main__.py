"""``python -m entrepot.cloud.gateway FILE`` runs one instance, as ``entrepot gateway serve --config FILE`` does.

A cloud host starts its instances so, and the image for Azure (``Containerfile``): without the command line each is
ready in half the time, and holds 14 MiB less.
"""

import sys
from pathlib import Path

from entrepot.core.errors import EntrepotError
from entrepot.core.loading import load_without_a_look


def main() -> None:
    """Run the instance that the file named on the command line describes."""
    load_without_a_look()
    # structlog would load rich, for tracebacks in colour: a quarter of the start, for what no instance prints.
    sys.modules["rich"] = None  # type: ignore[assignment]  # so Python is told that there is no such module
    from entrepot.cloud.gateway.app import run_gateway

    if len(sys.argv) != 2:
        sys.exit("One argument is needed: the instance's configuration file, which its cloud writes.")
    try:
        run_gateway(Path(sys.argv[1]))
    except EntrepotError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
