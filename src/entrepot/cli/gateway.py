"""``entrepot gateway``: one instance of a cloud service; the cloud host starts these itself."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="One gateway instance of a cloud service (the cloud host starts them).")


@app.command()
def serve(
    config: Annotated[Path, typer.Option("--config", help="The instance's configuration file, written by its host.")],
) -> None:
    """Run one gateway instance until SIGTERM, or until its host closes its standard input.

    \b
    Example:
      entrepot gateway serve --config /var/lib/entrepot/host/services/…/run/0.json
    """
    from entrepot.cloud.gateway.app import run_gateway

    run_gateway(config)


@app.callback()
def group() -> None:
    """One gateway instance of a cloud service (the cloud host starts them)."""
