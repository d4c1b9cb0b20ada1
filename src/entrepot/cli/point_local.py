"""``entrepot point init|check-config|serve``: a distribution point on this machine."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from entrepot.cli.options import AsJson, CodeStdin, Home
from entrepot.cli.output import print_facts, print_json, say
from entrepot.cli.secrets import read_code
from entrepot.core.errors import BadInputError

HOME = Path("/var/lib/entrepot/point")


def init(
    code: Annotated[
        str | None, typer.Option("--code", help="Enrolment code that `entrepot point add` printed.")
    ] = None,
    code_stdin: CodeStdin = False,
    home: Home = HOME,
    listen: Annotated[
        str, typer.Option(help="host:port to listen on, port 0 a free one; default: every address, the port of --url.")
    ] = "",
    url: Annotated[str, typer.Option(help="Where clients and the site reach it; default: that of --listen.")] = "",
    name: Annotated[str, typer.Option(help="Name; default: what the code says.")] = "",
    proxy: Annotated[str, typer.Option(help="HTTP proxy on the way to the site.")] = "",
    as_json: AsJson = False,
) -> None:
    """Enrol this machine as a distribution point. An enrolment that was interrupted goes on.

    \b
    Example:
      entrepot point init --code entrepot1.… --url https://dp-berlin.contoso.com:8443
      entrepot point serve
    """
    from entrepot.point.enrolment import init_point

    code = read_code(code, stdin=code_stdin)
    if not code:
        raise BadInputError(
            "An enrolment code is needed.", next_step="Give --code, as `entrepot point add` printed it."
        )
    made = asyncio.run(init_point(home, code, listen, url, name, proxy=proxy or None))
    if as_json:
        print_json({"point": made.point, "site": made.site, "name": made.name, "url": made.url, "home": str(home)})
        return
    print_facts(f"Point {made.name} is enrolled", (("id", made.point), ("site", made.site), ("address", made.url)))
    say(f"Next: entrepot point serve --home {home}")


def check_config(home: Home = HOME, as_json: AsJson = False) -> None:
    """Check point.toml as `serve` does at its start, and show every setting that counts. Changes nothing.

    \b
    Example:
      entrepot point check-config --home /var/lib/entrepot/point
    """
    from entrepot.cli.configuration import show_settings
    from entrepot.point.home import home_of, load_settings

    place = home_of(home)
    show_settings(place.settings, load_settings(place), as_json=as_json)


def serve(home: Home = HOME) -> None:
    """Run the distribution point in the foreground until SIGTERM. Logs are JSON lines on standard error.

    \b
    Example:
      entrepot point serve --home /var/lib/entrepot/point
    """
    from entrepot.point.server import serve_point
    from entrepot.web.server import run_process

    run_process(serve_point(home))
