"""``entrepot gateway``: one instance of a cloud service; the cloud host starts these itself."""

from pathlib import Path
from typing import Annotated

import typer

from entrepot.cli.options import AsJson

Config = Annotated[Path, typer.Option("--config", help="The instance's configuration file, written by its host.")]

app = typer.Typer(no_args_is_help=True, help="One gateway instance of a cloud service (the cloud host starts them).")


@app.command()
def serve(config: Config) -> None:
    """Run one gateway instance until SIGTERM, or until its host closes its standard input.

    \b
    Example:
      entrepot gateway serve --config /var/lib/entrepot/host/services/…/run/0.json
    """
    from entrepot.cloud.gateway.app import run_gateway

    run_gateway(config)


@app.command("check-config")
def check_config(config: Config, as_json: AsJson = False) -> None:
    """Check an instance's configuration file as `serve` does at its start, and show what counts. Changes nothing.

    \b
    Example:
      entrepot gateway check-config --config /etc/entrepot/gateway.json
    """
    from entrepot.cli.configuration import readable, show_settings
    from entrepot.cloud.gateway.config import load_config

    settings = load_config(config)
    readable(settings.certificate, "certificate")
    readable(settings.private_key, "private_key")
    show_settings(config, settings, as_json=as_json)


@app.callback()
def group() -> None:
    """One gateway instance of a cloud service (the cloud host starts them)."""
