"""``entrepot host certificate``: the management certificates that open a subscription of a cloud host."""

from pathlib import Path
from typing import Annotated, Final

import typer

from entrepot.cli.host.home import HOME, Which, administration
from entrepot.cli.options import AsJson, Home, Yes
from entrepot.cli.output import confirm, day, print_done, print_json, print_rows, say, when
from entrepot.cli.removing import DryRun, tell
from entrepot.core.errors import BadInputError

app = typer.Typer(no_args_is_help=True, help="Management certificates of a subscription.")

MAX_CER_FILE: Final = 65_536


@app.command("upload")
def upload_certificate(
    subscription: Which,
    certificate: Annotated[Path, typer.Argument(help="The .cer file, DER or PEM.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Let a further management certificate in, for instance to renew one.

    \b
    Example:
      entrepot host certificate upload contoso contoso-cloud-2027.cer
    """
    cer = read_cer(certificate)
    row = administration(home).upload_certificate(subscription, cer)
    if as_json:
        print_json(row)
    else:
        say(f"{row.name} ({row.thumbprint}) is let in until {day(row.not_after)}.")


@app.command("list")
def list_certificates(subscription: Which, home: Home = HOME, as_json: AsJson = False) -> None:
    """List a subscription's certificates, revoked ones too.

    \b
    Example:
      entrepot host certificate list contoso
    """
    rows = administration(home).certificates(subscription)
    if as_json:
        print_json(rows)
        return
    print_rows(
        ("Name", "Expires", "Revoked", "Thumbprint"),
        [(r.name, day(r.not_after), when(r.revoked or 0), r.thumbprint) for r in rows],
        empty="No certificate. Next: entrepot host certificate upload SUBSCRIPTION FILE.cer",
    )


@app.command("revoke")
def revoke_certificate(
    subscription: Which,
    thumbprint: Annotated[str, typer.Argument(help="At least its first 8 digits.")],
    home: Home = HOME,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Refuse a certificate from now on, and what it opened.

    \b
    Examples:
      entrepot host certificate revoke contoso 3f2a91c0 --dry-run
      entrepot host certificate revoke contoso 3f2a91c0 --yes
    """
    host = administration(home)
    if dry_run:
        with host.foresight() as foresight:
            tell(foresight.revocation(subscription, thumbprint), as_json=as_json)
        return
    confirm(f"Revoke the certificate {thumbprint}?", yes=yes)
    row = host.revoke_certificate(subscription, thumbprint)
    print_done(row, f"{row.name} ({row.thumbprint}) is revoked.", as_json=as_json)


def read_cer(path: Path) -> bytes:
    """A certificate file that an administrator names; read before the home is entered.

    Raises:
        BadInputError: it is too large to be one.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_CER_FILE + 1)
    if len(data) > MAX_CER_FILE:
        raise BadInputError(f"{path} is too large to be a certificate.")
    return data
