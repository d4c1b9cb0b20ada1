"""Orders that destroy: ``--dry-run`` tells what they would do, without it they are confirmed."""

from typing import Annotated

import typer

from entrepot.cli.output import confirm, print_done, print_facts, print_json, say, size
from entrepot.cli.session import site_session
from entrepot.protocol.removalapi import Effect, Removal

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would come of it; change nothing.")]


def remove_or_tell(
    ctx: typer.Context,
    path: str,
    question: str,
    *,
    done: dict[str, str],
    told: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    query: str = "",
) -> None:
    """Have the site remove what is at an address of its API, or tell what that would do.

    Args:
        path: below ``/api/v1``, without the query.
        done: what is said as JSON when it is removed; ``told``: in words.
    """
    if dry_run:
        foresee(ctx, f"{path}/removal{query}", as_json=as_json)
        return
    confirm(question, yes=yes)
    with site_session(ctx) as session:
        session.call("DELETE", path + query, None, type(None))
    print_done(done, told, as_json=as_json)


def foresee(ctx: typer.Context, path: str, *, as_json: bool) -> None:
    """Ask the site what an order would do, and tell it."""
    with site_session(ctx) as session:
        tell(session.get(path, Removal), as_json=as_json)


def tell(removal: Removal, *, as_json: bool) -> None:
    """What an order would do."""
    if as_json:
        print_json(removal)
        return
    facts = [(each.what, _described(each)) for each in removal.effects if each.count]
    print_facts(
        f"{removal.name}  ({removal.what})", [*facts, ("refused", removal.refusal), ("then", removal.next_step)]
    )
    say("Nothing was changed.")


def _described(effect: Effect) -> str:
    """Names, or how many; and bytes: of one thing without a name they say it all."""
    weight = "" if effect.bytes is None else size(effect.bytes)
    if not effect.names:
        return ", ".join(filter(None, ("" if weight and effect.count == 1 else f"{effect.count:,}", weight)))
    more = [f"and {effect.count - len(effect.names):,} more"] if effect.count > len(effect.names) else []
    return "\n".join([*effect.names, *more]) + (f", {weight}" if weight else "")
