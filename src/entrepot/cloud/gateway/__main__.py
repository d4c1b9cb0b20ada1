"""``python -m entrepot.cloud.gateway FILE`` runs one instance, as ``entrepot gateway serve --config FILE`` does."""

import sys
from pathlib import Path

from entrepot.cloud.gateway.app import run_gateway
from entrepot.core.errors import EntrepotError


def main() -> None:
    """Run the instance that the file named on the command line describes."""
    try:
        run_gateway(Path(sys.argv[1]))
    except EntrepotError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
