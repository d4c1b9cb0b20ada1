"""``entrepot key``: content secrets, signing keys, the trust document."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entrepot.cli.key_trust import (
    Force,
    PassphraseFile,
    PassphraseStdin,
    RaiseEpoch,
    RootKeyFile,
    Withdraw,
    print_published,
    sign_draft,
    trust,
)
from entrepot.cli.options import AsJson, Home, Yes
from entrepot.cli.output import confirm, day, print_facts, print_json, print_rows, say, size
from entrepot.cli.removing import DryRun, tell
from entrepot.cli.secrets import read_secret
from entrepot.cli.session import site_session
from entrepot.core.secret import Secret
from entrepot.protocol.keysapi import (
    KeysInfo,
    RollRequest,
    RotationInfo,
    RotationRequest,
    SignedTrust,
    TrustDraft,
)
from entrepot.protocol.removalapi import Removal
from entrepot.protocol.trust import Role

if TYPE_CHECKING:
    from entrepot.site.keys.vaulted import Closed

app = typer.Typer(no_args_is_help=True, help="Keys: rotate content secrets, roll signing keys over, export secrets.")
app.add_typer(trust, name="trust")

SITE_HOME = Path("/var/lib/entrepot/site")


@app.command("list")
def list_keys(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List generations of the content secret, signing keys and TLS certificates; never a secret.

    \b
    Example:
      entrepot key list
    """
    with site_session(ctx) as session:
        info = session.get("/keys", KeysInfo)
    if as_json:
        print_json(info)
        return
    print_rows(
        (">Generation", "Made", ">Versions", "State"),
        [
            (str(g.number), day(g.created), str(g.versions), "newest" if g.newest else "kept to read")
            for g in info.generations
        ],
        empty="No content secret.",
    )
    print_rows(
        ("Role", "Key", "State", "Until", ">Versions signed"),
        [(k.role.value, k.kid, k.state, day(k.not_after), str(k.versions or "")) for k in info.signing],
        empty="No signing key.",
    )
    print_rows(
        ("TLS certificate of", "Until", "State"),
        [(c.subject, day(c.expires), c.state) for c in info.certificates],
        empty="No certificate.",
    )


@app.command()
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what is under way: versions to seal anew, points that have not confirmed the trust document.

    \b
    Example:
      entrepot key status
    """
    with site_session(ctx) as session:
        info = session.get("/keys", KeysInfo)
    if as_json:
        print_json(info)
        return
    late = [f"{c.subject}: {c.state}, until {day(c.expires)}" for c in info.certificates if c.state != "ok"]
    print_facts(
        f"Trust document {info.trust_number}, epoch {info.epoch}",
        (
            ("content secret", f"generation {max(g.number for g in info.generations)}"),
            ("wrapping key", str(info.wrapping)),
            ("to seal anew", f"{info.to_reseal} versions, {info.resealing} tasks" if info.to_reseal else "nothing"),
            ("not confirmed by", "\n".join(info.behind)),
            ("certificates", "\n".join(late) or "all renewed in time"),
        ),
    )


@app.command()
def rotate(
    ctx: typer.Context,
    compromised: Annotated[
        bool, typer.Option("--compromised", help="Somebody may know the content secret: seal everything anew.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Rotate the content secret's wrapping key; after a compromise the content secret itself.

    Routine rotation wraps the secrets anew; what is stored is found and reused as before. With --compromised a new
    content secret is made, nothing older is reused, and every version is sealed anew in the background: points get it
    as if it were new, and clients that update fetch full objects once. Keys that were given out cannot be recalled.

    \b
    Examples:
      entrepot key rotate
      entrepot key rotate --compromised --dry-run
      entrepot key rotate --compromised --yes
    """
    with site_session(ctx) as session:
        if compromised and not dry_run and not yes:
            foreseen = session.post("/keys/rotate", RotationRequest(compromised=True, dry_run=True), RotationInfo)
            confirm(
                f"Seal {foreseen.to_reseal} versions ({size(foreseen.bytes)}) anew, and send them to points again?",
                yes=False,
            )
        info = session.post("/keys/rotate", RotationRequest(compromised=compromised, dry_run=dry_run), RotationInfo)
    _print_rotation(info, as_json=as_json, dry_run=dry_run)
    if compromised and not dry_run and not as_json:
        say("An earlier export lacks the new secret; on the site server: entrepot key export FILE")


@app.command()
def reseal(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Ask again for every version that is still to be sealed anew, for instance after its task was cancelled.

    \b
    Example:
      entrepot key reseal
    """
    with site_session(ctx) as session:
        info = session.post("/keys/reseal", None, RotationInfo)
    _print_rotation(info, as_json=as_json, dry_run=False)


def _print_rotation(info: RotationInfo, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        print_json(info)
        return
    rows = [(v.name, str(v.number), size(v.stored_size), v.content) for v in info.versions]
    print_rows(("Content", ">Version", ">Sealed", "Id"), rows, empty="No version is to be sealed anew.")
    say(f"{'It would be: ' * dry_run}Wrapping key {info.wrapping}, content secret of generation {info.generation}.")
    if dry_run:
        say("Nothing was changed.")
    elif info.to_reseal:
        say(f"{info.tasks} tasks were started for {info.to_reseal} versions. Watch: entrepot key status, task list")


@app.command()
def roll(
    ctx: typer.Context,
    root_key: RootKeyFile,
    roles: Annotated[
        list[Role] | None, typer.Argument(help="token, policy, control, manifest, ca; none: only sign anew.")
    ] = None,
    withdraw: Withdraw = None,
    raise_epoch: RaiseEpoch = False,
    force: Force = False,
    passphrase_file: PassphraseFile = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make new signing keys and have the root key sign the trust document that lists them.

    Points, gateways and clients follow by themselves; the keys before are believed for another week (manifest keys for
    as long as they were meant to). A new internal CA issues certificates a week later, when everyone knows it; the
    one before is believed for another 405 days. The root key is read on this machine and never sent.

    \b
    Examples:
      entrepot key roll token --root-key /media/usb/root.key
      entrepot key roll token policy control manifest --root-key /media/usb/root.key --raise-epoch
      entrepot key roll control --withdraw Zm9vYmFyYmF6 --root-key /media/usb/root.key --dry-run
      entrepot key roll control --withdraw Zm9vYmFyYmF6 --root-key /media/usb/root.key
    """
    request = RollRequest(
        roles=tuple(roles or ()), withdraw=tuple(withdraw or ()), raise_epoch=raise_epoch, force=force
    )
    with site_session(ctx) as session:
        if dry_run:
            tell(session.post("/keys/roll/removal", request, Removal), as_json=as_json)
            return
        made = session.post("/keys/roll", request, TrustDraft)
        signed = sign_draft(made, root_key, passphrase_file, yes=yes)
        info = session.post("/keys/trust", SignedTrust(document=signed), KeysInfo)
    print_published(info, as_json=as_json)


@app.command("export")
def export_keys(
    output: Annotated[Path, typer.Argument(help="File to write; it must not exist.")],
    home: Home = SITE_HOME,
    passphrase_file: PassphraseFile = None,
    passphrase_stdin: PassphraseStdin = False,
    with_certificates: Annotated[
        bool, typer.Option("--with-certificates", help="Also the keys of management and service certificates.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Export this site's secrets, signing keys and passwords to a file behind a passphrase. Run it on the site server.

    Keep the file apart from backups: whoever has both, and the passphrase, has everything. Export again after each
    rotation, and after a password was changed. Keys of certificates are in it only when asked for: whoever keeps the
    .pfx files elsewhere can import them again.

    \b
    Examples:
      entrepot key export /media/usb/ps1.secrets --home /var/lib/entrepot/site
      entrepot key export /media/usb/ps1.secrets --with-certificates
    """
    from entrepot.site.keys.exporting import export_secrets

    passphrase = _passphrase("Passphrase for the exported secrets", passphrase_file, passphrase_stdin, new=True)
    info = export_secrets(home, output, passphrase, now=time.time(), certificates=with_certificates)
    if as_json:
        print_json(info)
        return
    held = f"{info.secrets} secrets, {info.keys} signing keys, {info.others} passwords and keys of certificates"
    say(f"In {output}: {held}. Keep it offline, and the passphrase elsewhere.")
    _print_closed(info.closed, "is not in it, for it does not open here")


@app.command("import")
def import_keys(
    file: Annotated[Path, typer.Argument(help="File that `entrepot key export` wrote.")],
    home: Home = SITE_HOME,
    passphrase_file: PassphraseFile = None,
    passphrase_stdin: PassphraseStdin = False,
    as_json: AsJson = False,
) -> None:
    """Bring exported secrets to a site server that lost its vault key, such as a restored one. The site must not run.

    Settings, database and library must be there already. Content that was published before can be opened again, and
    passwords are back that have not changed since the export. What stays closed is named, with what to do once the
    site runs; that is true of certificates that were not exported.

    \b
    Example:
      entrepot key import /media/usb/ps1.secrets --home /var/lib/entrepot/site
    """
    from entrepot.site.keys.exporting import import_secrets, read_export

    data = read_export(file)
    passphrase = _passphrase("Passphrase of the exported secrets", passphrase_file, passphrase_stdin, new=False)
    info = import_secrets(home, data, passphrase, now=time.time())
    if as_json:
        print_json(info)
        return
    opened = f"{info.versions} versions and {info.others} passwords and keys of certificates opened again"
    say(f"Site {info.site}: {info.secrets} secrets, {info.keys} signing keys; {opened}.")
    for lost in info.lost:
        say(f"[yellow]Warning:[/] {lost} cannot be opened: publish it again.")
    if info.others:  # they are sealed anew, and an export knows a password by how it was sealed
        say("Export again: what was brought back now, the file would not bring back to yet another server.")
    _print_closed(info.closed, "does not open here")


def _print_closed(closed: tuple["Closed", ...], why: str) -> None:
    for each in closed:
        say(f"[yellow]Warning:[/] The {each.what} {each.name} {why}. Once the site runs:")
        say(f"  {each.remedy}")


def _passphrase(what: str, file: Path | None, stdin: bool, *, new: bool) -> Secret:
    options = "--passphrase-file FILE or --passphrase-stdin"
    return read_secret(what, file=file, stdin=stdin, confirm=new, options=options)
