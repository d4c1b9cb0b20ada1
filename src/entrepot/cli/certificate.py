"""``entrepot certificate``: management certificates (site ↔ cloud) and service certificates (cloud ↔ clients)."""

import time
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Annotated

import typer

from entrepot.cli.cloud.output import print_renewal
from entrepot.cli.options import AsJson, PasswordFile, PasswordStdin, Yes
from entrepot.cli.output import day, print_json, print_rows, say, yes_no
from entrepot.cli.removing import DryRun, remove_or_tell
from entrepot.cli.secrets import read_secret
from entrepot.cli.session import seg, site_session
from entrepot.core.errors import BadInputError, ConflictError
from entrepot.core.paths import windows_problem
from entrepot.durable.files import make_folder, write_file, write_private
from entrepot.protocol.cloudapi import RenewalPlan, RenewManagementCertificate
from entrepot.protocol.cloudpointapi import (
    CertificateInfo,
    ManagementCertificateRequest,
    PublicCertificate,
    ServiceCertificate,
    ServiceCertificateRequest,
)

app = typer.Typer(no_args_is_help=True, help="Certificates: make, import, list.")

MAX_PFX_FILE = 65_536
"""Bytes, as the site takes them: a key, its certificate and the whole chain have some 10 KiB."""
MAX_IMPORTED_FILE = 262_144
"""As well: it may be a ``.publishsettings`` file, which names many subscriptions."""
Days = Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")]
ServiceDays = Annotated[int, typer.Option(min=1, max=825, help="How long it is valid.")]
RENEWS = "Cloud point that serves by this name and is to get the new certificate; without it, nobody may have the name."
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.")]


class KeyKind(StrEnum):
    """Kinds of management keys; Azure takes RSA only."""

    RSA = "rsa"
    EC = "ec"


@app.command("new-management")
def new_management(
    name: Annotated[str, typer.Argument(help="Common name of the certificate.")],
    out: Out = Path(),
    days: Days = 365,
    key: Annotated[KeyKind, typer.Option(help="rsa works with every cloud, ec is smaller.")] = KeyKind.RSA,
    password_file: PasswordFile = None,
    password_stdin: PasswordStdin = False,
    as_json: AsJson = False,
) -> None:
    """Make a self-signed management certificate: NAME.cer for the cloud subscription, then NAME.pfx for the site.

    \b
    Example:
      entrepot certificate new-management contoso-cloud --out certs
      entrepot host subscription add contoso --certificate certs/contoso-cloud.cer     # on the cloud host
      entrepot certificate import contoso-cloud certs/contoso-cloud.pfx                # at the site
    """
    from entrepot.trust.certificates import describe, new_management, thumbprint

    cer, pfx = _file(out, name, ".cer"), _file(out, name, ".pfx")
    _not_there(cer, pfx)
    password = read_secret(f"Password for {pfx.name}", file=password_file, stdin=password_stdin, confirm=True)
    pair = new_management(name, days, key.value, now=time.time())
    private = pair.pfx(password)
    make_folder(out)
    write_file(cer, pair.cer)
    write_private(pfx, private)
    if as_json:
        print_json({"cer": str(cer), "pfx": str(pfx), "thumbprint": thumbprint(pair.certificate).hex()})
        return
    say(f"{describe(pair.certificate)}")
    say(f"  {cer}  public: give it to the cloud subscription first")
    say(f"  {pfx}  private: import it into the site, then keep it apart or delete it")


def _file(out: Path, name: str, suffix: str) -> Path:
    """Where a certificate of this name is written.

    Raises:
        BadInputError: no file can have the name.
    """
    if windows_problem(name) or PurePath(name).name != name:
        raise BadInputError(f"{name!r} cannot be the name of a file.", next_step="Give the folder by --out.")
    return out / f"{name}{suffix}"


def _not_there(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise ConflictError(f"{path} exists already.", next_step="Choose another name or another --out folder.")


@app.command("issue-service")
def issue_service(
    ctx: typer.Context,
    fqdn: Annotated[str, typer.Argument(help="Service name, such as cloud1.contoso.com.")],
    renews: Annotated[str, typer.Option(help=RENEWS)] = "",
    out: Out = Path(),
    days: ServiceDays = 365,
    password_file: PasswordFile = None,
    password_stdin: PasswordStdin = False,
    as_json: AsJson = False,
) -> None:
    """Let the hierarchy's own CA issue a service certificate, for clients that trust the hierarchy.

    A certificate of a public or company CA does as well: give its .pfx file to `entrepot cloud create`.

    \b
    Examples:
      entrepot certificate issue-service cloud1.contoso.com --out certs
      entrepot certificate issue-service cloud1.contoso.com --renews cloud-eu --out certs/new
      entrepot cloud renew-certificate cloud-eu certs/new/cloud1.contoso.com.pfx
    """
    pfx = out / f"{fqdn}.pfx"
    _not_there(pfx)
    password = read_secret(f"Password for {pfx.name}", file=password_file, stdin=password_stdin, confirm=True)
    body = ServiceCertificateRequest(fqdn=fqdn, renews=renews, days=days, password=password.reveal_text())
    with site_session(ctx) as session:
        issued = session.post("/service-certificates", body, ServiceCertificate)
    make_folder(out)
    write_private(pfx, issued.pfx)
    if as_json:
        print_json({"fqdn": issued.fqdn, "pfx": str(pfx), "not_after": issued.not_after})
    else:
        say(f"{pfx}: service certificate for {issued.fqdn}, valid until {day(issued.not_after)}")
        told = f"cloud renew-certificate {renews} {pfx}" if renews else f"cloud create NAME … --service-pfx {pfx}"
        say(f"Next: entrepot {told}")


@app.command("import")
def import_management(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="How the site will call it.")],
    pfx: Annotated[Path, typer.Argument(help="The .pfx file, or a .publishsettings file.")],
    subscription: Annotated[str, typer.Option(help="Which subscription of a .publishsettings file.")] = "",
    password_file: PasswordFile = None,
    password_stdin: PasswordStdin = False,
    as_json: AsJson = False,
) -> None:
    """Import a management certificate with its private key into the site. The password is used once, not stored.

    \b
    Examples:
      entrepot certificate import contoso-cloud certs/contoso-cloud.pfx
      entrepot certificate import contoso-cloud contoso.publishsettings
    """
    published = pfx.suffix.lower() == ".publishsettings"
    data = read_pfx(pfx, most=MAX_IMPORTED_FILE)
    asked = None if published else read_secret(f"Password of {pfx.name}", file=password_file, stdin=password_stdin)
    password = "" if asked is None else asked.reveal_text()
    body = ManagementCertificateRequest(name=name, pfx=data, password=password, subscription=subscription)
    with site_session(ctx) as session:
        info = session.post("/management-certificates", body, CertificateInfo)
    if as_json:
        print_json(info)
        return
    _print([info])
    for note in info.notes:
        say(note)


@app.command()
def renew(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the certificate in the site.")],
    pfx: Annotated[Path, typer.Argument(help="The .pfx file of the new one, with the same common name.")],
    password_file: PasswordFile = None,
    password_stdin: PasswordStdin = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try it at every cloud, and show what would change.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replace a management certificate by a new one of the same name, once every cloud that it opens accepts it.

    \b
    Example:
      entrepot host certificate upload contoso certs/contoso-cloud.cer     # on the cloud host, first
      entrepot certificate renew contoso-cloud certs/contoso-cloud.pfx
    """
    data = read_pfx(pfx)
    password = read_secret(f"Password of {pfx.name}", file=password_file, stdin=password_stdin)
    body = RenewManagementCertificate(pfx=data, password=password.reveal_text())
    with site_session(ctx) as session:
        if dry_run:
            print_renewal(
                session.post(f"/management-certificates/{seg(name)}/renew/plan", body, RenewalPlan), as_json=as_json
            )
            return
        info = session.post(f"/management-certificates/{seg(name)}/renew", body, CertificateInfo)
    if as_json:
        print_json(info)
    else:
        _print([info])
        say(
            "The old one still opens the cloud: revoke it there (`entrepot host certificate revoke` on a cloud host; "
            "in Azure, remove it from the application registration)."
        )


def read_pfx(path: Path, *, most: int = MAX_PFX_FILE) -> bytes:
    """Read a ``.pfx`` file of a sensible size.

    Raises:
        BadInputError: it is larger than any such file.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise BadInputError(
            f"{path} is too large: such a file has at most {most // 1024} KiB.",
            next_step="Export the certificate with its key and its own chain, and nothing else.",
        )
    return data


@app.command("export")
def export_public(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the certificate in the site.")],
    out: Out = Path(),
    as_json: AsJson = False,
) -> None:
    """Write the public half of a management certificate, NAME.cer, which the cloud must know. The key stays.

    \b
    Example:
      entrepot certificate export contoso-cloud --out certs
    """
    with site_session(ctx) as session:
        public = session.get(f"/management-certificates/{seg(name)}/public", PublicCertificate)
    cer = _file(out, public.name, ".cer")
    _not_there(cer)
    make_folder(out)
    write_file(cer, public.certificate)
    if as_json:
        print_json({"cer": str(cer), "thumbprint": public.thumbprint})
    else:
        say(f"{cer}: the public half of {public.name} (SHA-256 {public.thumbprint})")
        say(
            "Next: give it to the cloud: `entrepot host certificate upload` there; in Azure, to the application "
            "registration."
        )


@app.command("list")
def list_certificates(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the site's management certificates.

    \b
    Example:
      entrepot certificate list
    """
    with site_session(ctx) as session:
        certificates = session.get("/management-certificates", list[CertificateInfo])
    if as_json:
        print_json(certificates)
    else:
        _print(certificates)


def _print(certificates: list[CertificateInfo]) -> None:
    print_rows(
        ("Name", "Subject", "Key", "Expires", "Usable", "Thumbprint"),
        [(c.name, c.subject, c.key, day(c.not_after), yes_no(c.usable), c.thumbprint) for c in certificates],
        empty="No management certificate. Next: entrepot certificate new-management NAME",
    )


@app.command()
def remove(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id of the certificate.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove a management certificate and its private key from the site.

    \b
    Examples:
      entrepot certificate remove contoso-cloud --dry-run
      entrepot certificate remove contoso-cloud --yes
    """
    remove_or_tell(
        ctx,
        f"/management-certificates/{seg(name)}",
        f"Remove the management certificate {name} and its private key?",
        done={"removed": name},
        told=f"{name} is removed.",
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )
