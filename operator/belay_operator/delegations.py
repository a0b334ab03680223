"""One delegation at a time: judge it, write what was decided, and remember when to look again."""

from typing import Protocol

from belay_api.names import Ref
from belay_api.reasons import Reason
from belay_api.transitions import TERMINAL, Phase
from belay_kube.clock import Clock
from belay_kube.logs import about
from belay_operator.apply import Applier, Outcome
from belay_operator.decisions import fate
from belay_operator.decisions.view import AgentView, Change
from belay_operator.families import Families
from belay_operator.keys import Key, KeyKind
from belay_operator.metrics import Metrics
from belay_operator.observe.records import Work
from belay_operator.observe.views import Gatherer
from belay_operator.queues import after
from belay_operator.seen import Seen

_HELD_BACK_SECONDS = 2.0
"""Until work is looked at again that is due but not to be touched now."""
_BLIND_SECONDS = 30.0
"""The same in blind time, whose end looks at everything anyway."""


class Holder(Protocol):
    """Whoever holds work that no gateway holds."""

    async def look(self, work: Work) -> None:
        """Take it up, or see to it. Raises KubeError: look again."""


class Delegations:
    """The fast path and the sweep both end here, so that they can never disagree."""

    def __init__(
        self,
        seen: Seen,
        gatherer: Gatherer,
        applier: Applier,
        clock: Clock,
        metrics: Metrics,
        *,
        fast_path: bool = True,
    ) -> None:
        self._fast_path = fast_path
        self._seen = seen
        self._gatherer = gatherer
        self._applier = applier
        self._clock = clock
        self._metrics = metrics
        self.families = Families(seen, applier, clock)
        self.handover: Holder | None = None
        """Who holds the work of Model agents."""
        self.deadline_failures = 0
        self.stuck_marked = 0

    async def judge(self, ref: Ref, *, sweeping: bool = False) -> Change | None:
        """Decide on one delegation and write it; returns the change if it was written. Raises KubeError.

        Without the fast path what only time brings about is left to the sweep.
        """
        work = self._seen.index.work.get(ref)
        if work is None:
            self._seen.timers.drop(Key(KeyKind.WORK, ref))
            return None
        with _about(work):
            return await self._judge(work, sweeping)

    async def _judge(self, work: Work, sweeping: bool) -> Change | None:
        view = self._gatherer.view(work.agent)
        change = fate.decide(work, view, self._clock.now())
        if not ends(change):
            cut_off = await self.families.cut_off(work)
            change = fate.without_holder(work, cut_off) if cut_off else change
        if change is None or not (self._fast_path or sweeping or fate.is_prompted(change)):
            self.remind(work, view)
            if change is None and view.is_model and self.handover:
                await self.handover.look(work)
            return None
        if change.live_read:
            # Rests on the agent and its rows: decided once for all its work, on one live read. If it is not to be
            # after all, nothing else would remind of its deadline.
            self.remind(work, view)
            self._seen.look_at(work.agent)
            return None
        return change if (await self.write(work, change)).written else None

    def remind(self, work: Work, view: AgentView) -> None:
        """Look at `work` again when something of it is due."""
        now = self._clock.now()
        due = fate.next_due(work, view) if self._fast_path else fate.gone_at(work, view)
        if due is None:
            self._seen.timers.drop(Key(KeyKind.WORK, work.ref))
            return
        held_back = _BLIND_SECONDS if view.blind else _HELD_BACK_SECONDS
        later = due if due > now else after(now, held_back)
        self._seen.timers.set(Key(KeyKind.WORK, work.ref), later)

    async def write(self, work: Work, change: Change) -> Outcome:
        """Write a change and take in the answer; if somebody wrote first, that brings it up again. Raises KubeError."""
        with _about(work):
            outcome = await self._applier.delegation(work, change)
        if outcome.written:
            self._count(work, change)
        self._seen.answered_work(work.ref, outcome.obj)
        return outcome

    async def place(self, work: Work, place: int | None) -> None:
        """Tell a delegation its place in the queue. Raises KubeError."""
        self._seen.answered_work(work.ref, (await self._applier.place(work, place)).obj)

    def _count(self, work: Work, change: Change) -> None:
        if change.reason is Reason.DEADLINE_EXCEEDED:
            self.deadline_failures += 1
            due = work.deadline(self._seen.index.times_of(work.agent))
            self._metrics.lateness.observe((self._clock.now() - due).total_seconds())
        self.stuck_marked += change.target is Phase.STUCK


def _about(work: Work) -> about:
    return about(agent=work.agent, delegation=work.ref, session=work.holder)


def ends(change: Change | None) -> bool:
    """Whether `change` is an end that rests on the delegation alone: its deadline, its own cancel."""
    return change is not None and change.target in TERMINAL and not change.live_read
