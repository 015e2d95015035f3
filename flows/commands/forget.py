"""``modelmill forget``: the takedown list is added to, shown, and withdrawn from."""

from __future__ import annotations

from rich.console import Console

from flows import show
from flows.commands.tracing import last_run
from flows.environment import prepare
from flows.takedowns import Exposed, exposed_to, number_of
from flows.tracing import addresses_like, fates
from storage import takedowns
from storage.store import Store, open_store
from tasks.web.takedown import TakedownError, overlapping, rule


def forget_command(console: Console, *, url: str, domain: str, reason: str, withdraw: bool) -> None:
    """Put a page or a domain on the takedown list, or take it off again, and say what follows.

    Raises TakedownError where the value is no address or no host, where not exactly one of the two is given,
    or where what is to be withdrawn is not on the list.
    """
    prepare()
    if bool(url) == bool(domain):
        raise TakedownError("give either --url or --domain, or --list alone")
    store, kind, value = open_store(), "url" if url else "domain", url or domain
    if withdraw:
        _withdraw(console, store, kind, value, reason)
    else:
        _take_down(console, store, _checked(store, kind, value), reason)


def list_command(console: Console) -> None:
    """Print the rules in force and, where any was withdrawn, all that was ever done to the list."""
    prepare()
    store = open_store()
    rules, log = takedowns.in_force(store), takedowns.log(store)
    if rules:
        console.print(show.takedown_table(rules, "On the takedown list"))
    else:
        console.print("Nothing is on the takedown list.")
    if any(entry.withdrawn for entry in log):
        console.print()
        console.print(show.takedown_table(log, "What was done to it"))


def _checked(store: Store, kind: str, value: str) -> str:
    """The rule; a page's address need not be whole where the last run has it so, as rows of a table may."""
    try:
        return rule(kind, value)
    except TakedownError as error:
        run = last_run(store) if kind == "url" else None
        if run and any(fates(store, run, "url", value)):
            return f"url {value}"
        if run and (like := addresses_like(store, run, value)):
            raise TakedownError(f"{error}. The last run has: {', '.join(like)}") from error
        raise


def _take_down(console: Console, store: Store, wanted: str, reason: str) -> None:
    new = takedowns.take_down(store, wanted, reason)
    _say(
        console,
        f"{wanted} is {'now' if new else 'already'} on the takedown list; the next run leaves it out.",
    )
    found = list(exposed_to(store, wanted))
    for version in found:
        names = "".join(f" @{alias}" for alias in version.aliases)
        if uses := _uses(version):
            _say(console, f"  {version.model}{names} was {' and '.join(uses)}")
        if version.gone:
            whether = f"cannot tell whether {version.model}{names} saw {'more of ' if uses else ''}it"
            _say(console, f"  {whether}: {' and '.join(version.gone)} gone from the store {store.uri}")
    if not any(version.documents for version in found):
        known = "is known to be" if any(version.gone for version in found) else "was"
        _say(console, f"No registered version {known} trained on it.")


def _uses(version: Exposed) -> list[str]:
    """What a version was made and measured with of what a rule means."""
    uses = []
    if version.documents:
        uses.append(f"trained on it: {number_of(version.documents)}, {version.tokens:,} tokens")
    if version.evaluated:
        uses.append(f"evaluated on it: {number_of(version.evaluated)}")
    return uses


def _withdraw(console: Console, store: Store, kind: str, value: str, reason: str) -> None:
    rules = takedowns.taken_down(store)
    as_given = f"{kind} {value.strip()}"
    wanted = as_given if as_given in rules else rule(kind, value)
    if not takedowns.withdraw(store, wanted, reason):
        there = f"on it are: {', '.join(rules)}" if rules else "nothing is on it"
        raise TakedownError(f"{wanted} is not on the takedown list; {there}.")
    _say(
        console,
        f"{wanted} is no longer on the takedown list; the next run brings its pages back, from the store "
        "where they still are in it. The list's log keeps both entries.",
    )
    if rest := overlapping(wanted, takedowns.taken_down(store)):
        _say(console, f"Some of its pages stay left out, by what is still on the list: {', '.join(rest)}")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
