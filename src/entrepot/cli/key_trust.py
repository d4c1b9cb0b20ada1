"""``entrepot key trust``: trust documents, drafted, signed where the root key is, and put into force."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from entrepot.cli.files import read_bounded
from entrepot.cli.options import AsJson, Yes
from entrepot.cli.output import confirm, day, print_done, print_json, print_line, print_rows, say, stderr, stdout
from entrepot.cli.secrets import read_secret
from entrepot.cli.session import SiteSession, site_session
from entrepot.core.encoding import from_json
from entrepot.core.errors import BadInputError
from entrepot.protocol.keysapi import KeysInfo, RollRequest, SignedTrust, TrustDraft
from entrepot.protocol.trust import KeyChange, Role, TrustDocument, key_changes

trust = typer.Typer(no_args_is_help=True, help="Trust documents, where the root key is kept on another machine.")


RootKeyFile = Annotated[Path, typer.Option("--root-key", help="The hierarchy's root key file.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="Read the passphrase from this file's first line; /dev/fd/3 is one, too."),
]
PassphraseStdin = Annotated[
    bool,
    typer.Option(
        "--passphrase-stdin", "--password-stdin", help="Read the passphrase from the first line of standard input."
    ),
]
Withdraw = Annotated[
    list[str] | None, typer.Option("--withdraw", help="Id of a key that is compromised: believed no more at once.")
]
RaiseEpoch = Annotated[
    bool, typer.Option("--raise-epoch", help="Let nothing that was signed before be fresh: after a restore.")
]
Force = Annotated[bool, typer.Option("--force", help="Withdraw manifest keys although versions are signed by them.")]


@trust.command("draft")
def trust_draft(
    ctx: typer.Context,
    output: Annotated[Path, typer.Argument(help="File to write the draft to.")],
    role: Annotated[list[Role] | None, typer.Option("--role", help="Make a new key for this role; repeatable.")] = None,
    withdraw: Withdraw = None,
    raise_epoch: RaiseEpoch = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Draft the next trust document, to be signed where the root key is.

    \b
    Example:
      entrepot key trust draft trust.draft --role token
    """
    from entrepot.core.encoding import to_json

    request = RollRequest(roles=tuple(role or ()), withdraw=tuple(withdraw or ()), raise_epoch=raise_epoch, force=force)
    with site_session(ctx) as session:
        made = session.post("/keys/roll", request, TrustDraft)
    output.write_bytes(to_json(made))
    told = f"Next, where the root key is: entrepot key trust sign {output} trust.jws --root-key FILE"
    print_done({"draft": output}, told, as_json=as_json)


@trust.command("sign")
def trustsign_draft(
    draft: Annotated[Path, typer.Argument(help="The draft.")],
    output: Annotated[Path, typer.Argument(help="File to write the signed document to.")],
    root_key: RootKeyFile,
    passphrase_file: PassphraseFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what the draft changes; sign nothing.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Sign a draft with the root key: shows what it changes, and asks for the passphrase. Needs no connection.

    \b
    Examples:
      entrepot key trust sign trust.draft trust.jws --root-key root.key --dry-run
      entrepot key trust sign trust.draft trust.jws --root-key root.key
    """
    made = from_json(read_bounded(draft), TrustDraft, "draft of a trust document")
    if dry_run:
        _tell_draft(*_compared(made, read_bounded(root_key)), as_json=as_json)
        return
    output.write_text(sign_draft(made, root_key, passphrase_file, yes=yes) + "\n")
    told = f"Next, from where the site is reached: entrepot key trust publish {output}"
    print_done({"signed": output}, told, as_json=as_json)


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
    text = read_bounded(signed).decode("ascii", "replace").strip()
    with site_session(ctx) as session:
        info = _publish(session, text)
    print_published(info, as_json=as_json)


def _publish(session: SiteSession, document: str) -> KeysInfo:
    return session.post("/keys/trust", SignedTrust(document=document), KeysInfo)


def sign_draft(made: TrustDraft, root_key: Path, passphrase_file: Path | None, *, yes: bool) -> str:
    """Show what a draft changes, ask, and sign it. What is compared is signed by the same root."""
    from entrepot.trust.root import RootKey

    pem = read_bounded(root_key)
    present, document = _compared(made, pem)
    _print_changes(_changes(present, document), stderr())
    epoch = f", epoch {document.epoch}" if document.epoch != present.epoch else ""
    confirm(f"Sign trust document {document.number}{epoch} of {document.hierarchy}?", yes=yes)
    passphrase = read_secret("Passphrase of the root key", file=passphrase_file, options="--passphrase-file FILE")
    return RootKey.load(pem, passphrase).sign_trust(document)


def _compared(made: TrustDraft, pem: bytes) -> tuple[TrustDocument, TrustDocument]:
    """The present trust document and the draft.

    Raises:
        TrustError: another root signed the present one.
        BadInputError: the draft does not follow it.
    """
    from entrepot.trust.root import public_of_file, verify_trust

    present = verify_trust(made.present, public_of_file(pem))
    document = from_json(made.document, TrustDocument, "draft of a trust document")
    if document.hierarchy != present.hierarchy or document.number <= present.number or document.epoch < present.epoch:
        raise BadInputError("The draft does not follow the present trust document.", next_step="Draft it anew.")
    return present, document


def _changes(present: TrustDocument, document: TrustDocument) -> list[tuple[str, str, str, str]]:
    return [
        (change.value, each.role.value, each.kid, "now" if change is KeyChange.GOES else day(each.not_after))
        for change, each in key_changes(present, document)
    ]


def _print_changes(rows: list[tuple[str, str, str, str]], console: Console) -> None:
    print_rows(("Key", "Role", "Id", "Until"), rows, empty="No key comes or goes.", console=console)


def _tell_draft(present: TrustDocument, document: TrustDocument, *, as_json: bool) -> None:
    rows = _changes(present, document)
    if as_json:
        keys = [dict(zip(("change", "role", "id", "until"), row, strict=True)) for row in rows]
        told = {"number": document.number, "epoch": document.epoch, "present_epoch": present.epoch, "keys": keys}
        print_json(told)
        return
    raised = f" (was {present.epoch})" if document.epoch != present.epoch else ""
    print_line(f"Trust document {document.number}, epoch {document.epoch}{raised}, of {document.hierarchy}")
    _print_changes(rows, stdout())
    say("Nothing was signed.")


def print_published(info: KeysInfo, *, as_json: bool) -> None:
    """Say what is in force now, and who has not confirmed it yet."""
    if as_json:
        print_json(info)
        return
    say(f"Trust document {info.trust_number}, epoch {info.epoch}, is in force.")
    if info.behind:
        say(f"To be confirmed by {', '.join(info.behind)}. Watch: entrepot key status")
