"""``entrepot key``: content secrets, signing keys, the trust document."""

import time
from pathlib import Path
from typing import Annotated

import typer

from entrepot.cli.options import AsJson, Home, PasswordStdin, Yes
from entrepot.cli.output import confirm, day, print_facts, print_json, print_rows, say, size
from entrepot.cli.secrets import read_secret
from entrepot.cli.session import SiteSession, site_session
from entrepot.core.encoding import from_json
from entrepot.core.errors import BadInputError, NotFoundError
from entrepot.core.secret import Secret
from entrepot.protocol.keysapi import (
    KeysInfo,
    RollRequest,
    RotationInfo,
    RotationRequest,
    SignedTrust,
    TrustDraft,
)
from entrepot.protocol.trust import Role, TrustDocument

app = typer.Typer(no_args_is_help=True, help="Keys: rotate content secrets, roll signing keys over, export secrets.")
trust = typer.Typer(no_args_is_help=True, help="Trust documents, where the root key is kept on another machine.")
app.add_typer(trust, name="trust")

SITE_HOME = Path("/var/lib/entrepot/site")
MAX_FILE = 4 * 1024 * 1024

RootKeyFile = Annotated[Path, typer.Option("--root-key", help="The hierarchy's root key file.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="Read the passphrase from this file's first line; /dev/fd/3 is one, too."),
]
Withdraw = Annotated[
    list[str] | None, typer.Option("--withdraw", help="Id of a key that is compromised: believed no more at once.")
]
RaiseEpoch = Annotated[
    bool, typer.Option("--raise-epoch", help="Let nothing that was signed before be fresh: after a restore.")
]
Force = Annotated[bool, typer.Option("--force", help="Withdraw manifest keys although versions are signed by them.")]


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
    say(f"Wrapping key {info.wrapping}, content secret of generation {info.generation}.")
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
      entrepot key roll control --withdraw Zm9vYmFyYmF6 --root-key /media/usb/root.key
    """
    request = RollRequest(
        roles=tuple(roles or ()), withdraw=tuple(withdraw or ()), raise_epoch=raise_epoch, force=force
    )
    with site_session(ctx) as session:
        made = session.post("/keys/roll", request, TrustDraft)
        signed = _sign(made, root_key, passphrase_file, yes=yes)
        info = session.post("/keys/trust", SignedTrust(document=signed), KeysInfo)
    _print_published(info, as_json=as_json)


@trust.command("draft")
def trust_draft(
    ctx: typer.Context,
    output: Annotated[Path, typer.Argument(help="File to write the draft to.")],
    role: Annotated[list[Role] | None, typer.Option("--role", help="Make a new key for this role; repeatable.")] = None,
    withdraw: Withdraw = None,
    raise_epoch: RaiseEpoch = False,
    force: Force = False,
) -> None:
    """Draft the next trust document, to be signed where the root key is.

    \b
    Example:
      entrepot key trust draft trust.draft --role token
    """
    from entrepot.core.encoding import to_json

    request = RollRequest(
        roles=tuple(role or ()), withdraw=tuple(withdraw or ()), raise_epoch=raise_epoch, force=force
    )
    with site_session(ctx) as session:
        made = session.post("/keys/roll", request, TrustDraft)
    output.write_bytes(to_json(made))
    say(f"Next, where the root key is: entrepot key trust sign {output} trust.jws --root-key FILE")


@trust.command("sign")
def trust_sign(
    draft: Annotated[Path, typer.Argument(help="The draft.")],
    output: Annotated[Path, typer.Argument(help="File to write the signed document to.")],
    root_key: RootKeyFile,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
) -> None:
    """Sign a draft with the root key: shows what it changes, and asks for the passphrase. Needs no connection.

    \b
    Example:
      entrepot key trust sign trust.draft trust.jws --root-key root.key
    """
    made = from_json(_bounded(draft), TrustDraft, "draft of a trust document")
    output.write_text(_sign(made, root_key, passphrase_file, yes=yes) + "\n")
    say(f"Next, from where the site is reached: entrepot key trust publish {output}")


@trust.command("publish")
def trust_publish(
    ctx: typer.Context,
    signed: Annotated[Path, typer.Argument(help="The signed document.")],
    as_json: AsJson = False,
) -> None:
    """Put a signed trust document into force.

    \b
    Example:
      entrepot key trust publish trust.jws
    """
    text = _bounded(signed).decode("ascii", "replace").strip()
    with site_session(ctx) as session:
        info = _publish(session, text)
    _print_published(info, as_json=as_json)


def _publish(session: SiteSession, document: str) -> KeysInfo:
    return session.post("/keys/trust", SignedTrust(document=document), KeysInfo)


def _sign(made: TrustDraft, root_key: Path, passphrase_file: Path | None, *, yes: bool) -> str:
    """Show what a draft changes, ask, and sign it. What is compared is signed by the same root."""
    from entrepot.trust.root import RootKey, public_of_file, verify_trust

    pem = _bounded(root_key)
    present = verify_trust(made.present, public_of_file(pem))
    document = from_json(made.document, TrustDocument, "draft of a trust document")
    before, after = {each.kid: each for each in present.keys}, {each.kid: each for each in document.keys}
    rows = [("comes", each.role.value, kid, day(each.not_after)) for kid, each in after.items() if kid not in before]
    rows += [
        ("ends", each.role.value, kid, day(each.not_after))
        for kid, each in after.items()
        if kid in before and each.not_after != before[kid].not_after
    ]
    rows += [("goes", each.role.value, kid, "now") for kid, each in before.items() if kid not in after]
    print_rows(("Key", "Role", "Id", "Until"), rows, empty="No key comes or goes.")
    if document.hierarchy != present.hierarchy or document.number <= present.number or document.epoch < present.epoch:
        raise BadInputError("The draft does not follow the present trust document.", next_step="Draft it anew.")
    epoch = f", epoch {document.epoch}" if document.epoch != present.epoch else ""
    confirm(f"Sign trust document {document.number}{epoch} of {document.hierarchy}?", yes=yes)
    passphrase = read_secret("Passphrase of the root key", file=passphrase_file, options="--passphrase-file FILE")
    return RootKey.load(pem, passphrase).sign_trust(document)


def _print_published(info: KeysInfo, *, as_json: bool) -> None:
    if as_json:
        print_json(info)
        return
    say(f"Trust document {info.trust_number}, epoch {info.epoch}, is in force.")
    if info.behind:
        say(f"To be confirmed by {', '.join(info.behind)}. Watch: entrepot key status")


def _bounded(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {path}.") from None
    if len(data) > MAX_FILE:
        raise BadInputError(f"{path} is larger than any such file.")
    return data


@app.command("export")
def export_keys(
    output: Annotated[Path, typer.Argument(help="File to write; it must not exist.")],
    home: Home = SITE_HOME,
    passphrase_file: PassphraseFile = None,
    passphrase_stdin: PasswordStdin = False,
) -> None:
    """Export this site's secrets and signing keys to a file, protected by a passphrase. Run it on the site server.

    Keep the file apart from backups: whoever has both, and the passphrase, has everything. Export again after each
    rotation. Certificates of clouds are not in it.

    \b
    Example:
      entrepot key export /media/usb/ps1.secrets --home /var/lib/entrepot/site
    """
    from entrepot.site.exporting import export_secrets

    passphrase = _passphrase("Passphrase for the exported secrets", passphrase_file, passphrase_stdin, new=True)
    count = export_secrets(home, output, passphrase, now=time.time())
    say(f"{count} secrets and keys are in {output}. Keep it offline, and the passphrase elsewhere.")


@app.command("import")
def import_keys(
    file: Annotated[Path, typer.Argument(help="File that `entrepot key export` wrote.")],
    home: Home = SITE_HOME,
    passphrase_file: PassphraseFile = None,
    passphrase_stdin: PasswordStdin = False,
    as_json: AsJson = False,
) -> None:
    """Bring exported secrets to a site server that lost its vault key, such as a restored one. The site must not run.

    Settings, database and library must be there already. Content that was published before can be opened again; cloud
    points need their certificates imported again.

    \b
    Example:
      entrepot key import /media/usb/ps1.secrets --home /var/lib/entrepot/site
    """
    from entrepot.site.exporting import import_secrets, read_export

    data = read_export(file)
    passphrase = _passphrase("Passphrase of the exported secrets", passphrase_file, passphrase_stdin, new=False)
    info = import_secrets(home, data, passphrase, now=time.time())
    if as_json:
        print_json(info)
        return
    say(f"Site {info.site}: {info.secrets} secrets, {info.keys} keys; {info.versions} versions opened again.")
    for lost in info.lost:
        say(f"[yellow]Warning:[/] {lost} cannot be opened: publish it again.")
    say("Import the management certificates of cloud points again: entrepot certificate --help")


def _passphrase(what: str, file: Path | None, stdin: bool, *, new: bool) -> Secret:
    return read_secret(what, file=file, stdin=stdin, confirm=new)
