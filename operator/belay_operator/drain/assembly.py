"""Puts the drain together."""

from dataclasses import dataclass

from belay_api.names import Ref
from belay_kube.client import Kube
from belay_kube.clock import Clock
from belay_operator.apply import Applier
from belay_operator.delegations import Delegations
from belay_operator.drain.answering import Answering
from belay_operator.drain.asking import Asking
from belay_operator.drain.calls import Calls
from belay_operator.drain.claims import Claims
from belay_operator.drain.configuration import Configurations
from belay_operator.drain.drainer import Drainer
from belay_operator.drain.ends import Ends
from belay_operator.drain.halfstep import Parts
from belay_operator.drain.handover import Handover
from belay_operator.drain.history import History
from belay_operator.drain.llm.base import ToolDefinition
from belay_operator.drain.llm.providers import Providers
from belay_operator.drain.pool import Pool
from belay_operator.drain.running import Running
from belay_operator.drain.setbacks import Setbacks
from belay_operator.drain.settling import Settling
from belay_operator.drain.starting import Starter
from belay_operator.drain.store import Store
from belay_operator.drain.tending import DEFAULT_KEEP_SECONDS, Tending
from belay_operator.drain.tools.delegate import Delegate
from belay_operator.drain.tools.registry import Registry
from belay_operator.drain.tools.reply import Reply
from belay_operator.drain.waiting import Waiting
from belay_operator.drain.writing import Writing
from belay_operator.events import Recorder
from belay_operator.metrics import Metrics
from belay_operator.observe.mailbox_records import SessionRecord
from belay_operator.observe.mailboxes import Mailboxes
from belay_operator.seen import Seen

DEFAULT_CALLS = 16
"""Calls to models at once."""


@dataclass(frozen=True)
class Around:
    """What the drain is given by the operator."""

    kube: Kube
    clock: Clock
    seen: Seen
    applier: Applier
    recorder: Recorder
    metrics: Metrics
    identity: str


@dataclass(frozen=True)
class Drain:
    """The parts that others use."""

    drainer: Drainer
    handover: Handover
    registry: Registry
    providers: Providers
    running: Running

    async def stop(self) -> None:
        """End what runs: sessions are given back, so that who leads next need not wait for claims to expire."""
        await self.drainer.stop()
        await self.running.close()
        await self.providers.close()


def assemble(around: Around, delegations: Delegations, at_once: int, keep: int = DEFAULT_KEEP_SECONDS) -> Drain:
    """The drain of one operator; `delegations` writes what becomes of its work, `at_once` calls may be under way, and
    returned mail is kept for `keep` seconds."""
    seen, clock, store = around.seen, around.clock, Store(around.kube, around.clock)
    mailboxes, history = seen.mailboxes, History(store)
    claims = Claims(store, mailboxes, clock, around.identity)
    providers, configurations = Providers(clock), Configurations(store, seen.index.agents.get)
    handover = Handover(seen, store, around.applier, delegations.write, clock)
    running = Running(lambda ref: seen.look_at_sessions([ref]))
    ends = Ends(seen, around.applier)
    registry = Registry([Delegate(store, lambda ref: _description(seen, ref)), Reply(store, ends)])
    waiting = Waiting(store, seen, running, around.identity)
    calls = Calls(store, history, mailboxes, Starter(registry), running, waiting, ends, around.recorder, clock)

    def tools(session: SessionRecord) -> list[ToolDefinition]:
        return calls.definitions(session, seen.index.agents.get(session.agent))

    settling = Settling(
        store=store,
        claims=claims,
        history=history,
        delegations=handover,
        calls=calls,
        mailboxes=mailboxes,
        agent=seen.index.agents.get,
        recorder=around.recorder,
        metrics=around.metrics,
        clock=clock,
    )
    answering = Answering(configurations, providers, history, Asking(clock, around.metrics), tools)
    parts = Parts(store, claims, mailboxes, answering, settling, Writing(store, claims, clock), clock)
    _measure(around.metrics, mailboxes, clock)
    tending = Tending(store, mailboxes, clock, keep)
    setbacks, pool = Setbacks(configurations, seen.index.agents.get, clock), Pool(at_once)
    drainer = Drainer(seen, parts, handover, calls, tending, setbacks, pool, around.recorder, clock, around.metrics)
    return Drain(drainer, handover, registry, providers, running)


def _measure(metrics: Metrics, mailboxes: Mailboxes, clock: Clock) -> None:
    """Mail that waits, counted whenever somebody asks."""

    def oldest() -> float:
        created = [m.created for m in mailboxes.messages.values() if m.pending and m.active]
        return (clock.now() - min(created)).total_seconds() if created else 0.0

    metrics.mail_waiting.set_function(lambda: float(sum(m.pending for m in mailboxes.messages.values())))
    metrics.mail_age.set_function(oldest)


def _description(seen: Seen, agent: Ref) -> str | None:
    record = seen.index.agents.get(agent)
    return record.description if record else None
