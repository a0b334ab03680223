"""What is looked at because of what was seen, as far as no other test shows it."""

from dataclasses import replace

from belay_api.names import Ref
from belay_api.timing import Times
from belay_api.transitions import Phase
from belay_kube.clock import FakeClock
from belay_operator.keys import Key, KeyKind
from belay_operator.metrics import Metrics
from belay_operator.observe.index import Index
from belay_operator.observe.presence import Presence
from belay_operator.queues import WorkQueue
from belay_operator.seen import Seen

from .builders import NAMESPACE, at, delegation
from .mailbox import mail, session


def seen() -> Seen:
    """By an operator that has just started, with session `s`."""
    clock = FakeClock(at(0))
    made = Seen(Index(Times()), Presence(clock, 45), clock, Metrics())
    made.saw_session(session("s").record)
    return made


def forgotten(site: Seen) -> None:
    """Nothing is left to be looked at."""
    site.queue = WorkQueue()


async def keys(site: Seen) -> set[Key]:
    """What is to be looked at now."""
    return {await site.queue.take() for _ in range(len(site.queue))}


async def test_D9_the_session_that_work_was_for_is_looked_at_when_it_ends() -> None:
    """Cancelled before it was taken, it names no holder any more; its prompt may be in that mailbox all the same."""
    site = seen()
    site.saw_work(delegation("d").dispatched(0).held_by("s").work)
    forgotten(site)
    ended = delegation("d").dispatched(0).ended(Phase.CANCELLED, 1).work
    site.saw_work(replace(ended, version="9999999"))
    assert Key(KeyKind.SESSION, Ref(NAMESPACE, "s")) in await keys(site)


async def test_the_work_of_a_prompt_that_is_deleted_is_looked_at() -> None:
    """And that of no other message."""
    site = seen()
    prompt, other = mail("p").prompt_of("d").record, mail("m").record
    for message in (prompt, other):
        site.saw_message(message)
    forgotten(site)
    site.gone_message(other.ref)
    assert await keys(site) == {Key(KeyKind.SESSION, Ref(NAMESPACE, "s"))}
    forgotten(site)
    site.gone_message(prompt.ref)
    assert await keys(site) == {Key(KeyKind.SESSION, Ref(NAMESPACE, "s")), Key(KeyKind.WORK, Ref(NAMESPACE, "d"))}
