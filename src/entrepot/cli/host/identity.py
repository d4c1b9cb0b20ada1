"""``entrepot host identity``: the key by which sites recognise a cloud host, and its replacement."""

from typing import TYPE_CHECKING, Annotated

import typer

from entrepot.cli.host.home import HOME, key_administration
from entrepot.cli.options import AsJson, Home, Yes
from entrepot.cli.output import confirm, print_facts, print_json, print_rows, say, when
from entrepot.cli.removing import DryRun, tell

if TYPE_CHECKING:
    from entrepot.cloud.host.keyadministration import KeyView

app = typer.Typer(no_args_is_help=True, help="The host's own key, by whose pin sites recognise it; its replacement.")

_BY_HAND = "Sites that do not know the new pin refuse this host until an administrator accepts it there:"


@app.command("show")
def show_identity(home: Home = HOME, as_json: AsJson = False) -> None:
    """Show the pin, the next one if it is announced, and which sites have kept that.

    \b
    Example:
      entrepot host identity show
    """
    _print(key_administration(home).show(), as_json=as_json)


@app.command()
def rotate(
    days: Annotated[
        int, typer.Option("--days", min=1, max=365, help="So long sites are told of the next key before it is used.")
    ] = 14,
    now: Annotated[
        bool, typer.Option("--now", help="Use a new key at once, unannounced: the present one is known to somebody.")
    ] = False,
    home: Home = HOME,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Replace the host's own key, without a restart. Running transfers go on.

    Sites learn the next pin when they look after their cloud points (every few minutes), and from the switch on
    recognise the host by it. A site that was away all that time, and every site after --now, must be told by hand.

    \b
    Examples:
      entrepot host identity rotate
      entrepot host identity rotate --days 30
      entrepot host identity rotate --now --dry-run
      entrepot host identity rotate --now --yes
    """
    host = key_administration(home)
    if dry_run:
        tell(host.foresight(announced=False) if now else host.announcement(), as_json=as_json)
        return
    if now:
        confirm("Replace the key at once? Every site must accept the new pin by hand.", yes=yes)
    view = host.replace() if now else host.rotate(days)
    _print(view, as_json=as_json)
    if not as_json:
        _advise(view, unannounced=now)


@app.command()
def switch(home: Home = HOME, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False) -> None:
    """Use the announced key now, before its time.

    \b
    Examples:
      entrepot host identity switch --dry-run
      entrepot host identity switch --yes
    """
    host = key_administration(home)
    if dry_run:
        tell(host.foresight(announced=True), as_json=as_json)
        return
    confirm("Use the next key now? Sites that do not know it yet must accept it by hand.", yes=yes)
    view = host.switch()
    _print(view, as_json=as_json)
    if not as_json:
        _advise(view, unannounced=True)


@app.command()
def cancel(home: Home = HOME, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False) -> None:
    """Take the announcement of a next key back; that key is destroyed, and the present one stays.

    \b
    Examples:
      entrepot host identity cancel --dry-run
      entrepot host identity cancel --yes
    """
    host = key_administration(home)
    if dry_run:
        tell(host.cancellation(), as_json=as_json)
        return
    confirm("Destroy the next key, and go on with the present one?", yes=yes)
    _print(host.cancel(), as_json=as_json)


def _print(view: "KeyView", *, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    print_facts(
        "Key of the cloud host",
        (
            ("address", view.url),
            ("pin (--host-pin)", view.pin),
            ("next pin", view.next_pin),
            ("announced since", when(view.announced)),
            ("used from", when(view.due)),
        ),
    )
    if view.next_pin:
        print_rows(
            ("Subscription", "Certificate", "Thumbprint", "Knows the next pin"),
            [
                (
                    one.subscription,
                    one.certificate,
                    one.thumbprint[:16],
                    f"since {when(one.knows)}" if one.knows else "no",
                )
                for one in view.holders
            ],
            empty="No management certificate is let in: no site can ask.",
        )


def _advise(view: "KeyView", *, unannounced: bool) -> None:
    if unannounced:
        say(_BY_HAND)
        say(f"  entrepot cloud accept-pin NAME --host-pin {view.pin}")
    else:
        say("Next: entrepot host identity show tells which sites know it; the switch happens by itself.")
