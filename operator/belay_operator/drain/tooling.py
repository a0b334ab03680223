"""Puts together what has to do with tools."""

from collections.abc import Iterable

from belay_api.names import Ref
from belay_kube.clock import Clock
from belay_operator.apply import Applier
from belay_operator.drain.calls import Calls
from belay_operator.drain.ends import Ends
from belay_operator.drain.history import History
from belay_operator.drain.running import Running
from belay_operator.drain.starting import Starter
from belay_operator.drain.store import Store
from belay_operator.drain.tools.delegate import Delegate
from belay_operator.drain.tools.registry import Registry, Tool
from belay_operator.drain.tools.reply import Reply
from belay_operator.drain.waiting import Waiting
from belay_operator.events import Recorder
from belay_operator.seen import Seen


def make_calls(
    seen: Seen,
    store: Store,
    history: History,
    applier: Applier,
    recorder: Recorder,
    clock: Clock,
    identity: str,
    more: Iterable[Tool] = (),
) -> Calls:
    """The tool calls of one run of the process `identity`; `more`: tools beside Belay's own."""

    def describe(agent: Ref) -> str | None:
        record = seen.index.agents.get(agent)
        return record.description if record else None

    ends = Ends(seen, applier)
    running = Running(lambda session: seen.look_at_sessions([session]))
    registry = Registry([Delegate(store, describe), Reply(store, ends), *more])
    waiting = Waiting(store, seen, running, identity)
    return Calls(store, history, seen.mailboxes, Starter(registry), running, waiting, ends, recorder, clock)
