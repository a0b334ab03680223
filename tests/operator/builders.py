"""Builders of test objects: `delegation("d").to("a").dispatched(at=10)`; times are seconds from `T0`."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from belay_api.agent import OnAgentLost, Runtime
from belay_api.agentsubscription import SubscriptionPhase
from belay_api.meta import ANNOTATION_CANCEL_CASCADE, API_VERSION
from belay_api.names import Ref, subscription_name
from belay_api.reasons import Reason, SubscriptionReason
from belay_api.times import to_wire
from belay_api.timing import Times
from belay_api.transitions import Phase
from belay_operator.decisions.view import AgentView, SessionView
from belay_operator.observe.presence_records import GatewayLease, Row
from belay_operator.observe.records import Work

Json = dict[str, Any]
NAMESPACE = "ns"
GATEWAY = "gateway-1"
T0 = datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So many seconds after `T0`."""
    return T0 + timedelta(seconds=seconds)


class DelegationBuilder:
    """One delegation, made step by step; `body` is what a person creates, `work` what the operator keeps of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._created = 0.0
        self._spec: Json = {"agentRef": {"name": "a"}, "task": {"prompt": "do it"}}
        self._status: Json = {}
        self._annotations: dict[str, str] = {}

    # --- what is asked ---

    def to(self, agent: str, session: str | None = None) -> Self:
        """For this agent, or only this session of it."""
        self._spec["agentRef"] = {"name": agent}
        return self._ask(sessionId=session) if session else self

    def created(self, at: float) -> Self:
        """Asked for at this time."""
        self._created = at
        return self

    def priority(self, value: int) -> Self:
        """Higher goes first."""
        return self._ask(priority=value)

    def due_in(self, seconds: int) -> Self:
        """Its deadline, from its creation."""
        return self._ask(deadlineSeconds=seconds)

    def stuck_after(self, seconds: int) -> Self:
        """Its own stuck threshold."""
        return self._ask(stuckThresholdSeconds=seconds)

    def on_lost(self, policy: OnAgentLost) -> Self:
        """What becomes of it as an orphan."""
        return self._ask(onAgentLost=str(policy))

    def attempts(self, most: int, backoff: int = 10, on: Sequence[str] | None = None) -> Self:
        """How often it may be tried, how soon, and after what."""
        reasons = {} if on is None else {"on": list(on)}
        return self._ask(retry={"maxAttempts": most, "backoffSeconds": backoff, **reasons})

    def asking(self, prompt: str, **inputs: str) -> Self:
        """Its prompt, and what goes with it."""
        return self._ask(task={"prompt": prompt, **({"inputs": inputs} if inputs else {})})

    def asked_again(self, number: int) -> Self:
        """A person raised retryAttempt."""
        return self._ask(retryAttempt=number)

    def under(self, parent: str, kind: str = "Delegation") -> Self:
        """A part of another."""
        return self._ask(parentRef={"kind": kind, "name": parent})

    def kept_for(self, seconds: int) -> Self:
        """Its time to live once finished."""
        return self._ask(ttlSecondsAfterFinished=seconds)

    def not_cascading(self) -> Self:
        """Its cancel leaves its children alone."""
        self._annotations[ANNOTATION_CANCEL_CASCADE] = "false"
        return self

    def cancel_asked(self) -> Self:
        """Somebody wants its end."""
        return self._ask(desiredState="Cancelled")

    # --- how it goes ---

    def pending(self, reason: Reason) -> Self:
        """Seen, and not taken up yet."""
        return self._tell(phase=str(Phase.PENDING), reason=str(reason))

    def saying(self, message: str) -> Self:
        """What its status says in a sentence."""
        return self._tell(message=message)

    def queued(self, at: float, reason: Reason = Reason.AGENT_BUSY, attempt: int = 1) -> Self:
        """Waiting since then."""
        return self._tell(phase=str(Phase.QUEUED), reason=str(reason), attempt=attempt, queuedTime=to_wire(_moment(at)))

    def dispatched(self, at: float, attempt: int = 1) -> Self:
        """Offered at this time."""
        return self._tell(phase=str(Phase.DISPATCHED), attempt=attempt, dispatchedTime=to_wire(_moment(at)))

    def in_progress(self, by: str, at: float = 0, attempt: int = 1) -> Self:
        """Taken by this session at this time."""
        return self.dispatched(at, attempt)._tell(
            phase=str(Phase.IN_PROGRESS), sessionId=by, gateway=GATEWAY, acceptedTime=to_wire(_moment(at))
        )

    def held_by(self, session: str) -> Self:
        """Its status names this session."""
        return self._tell(sessionId=session)

    def beat(self, at: float) -> Self:
        """Its holder's last beat."""
        return self._tell(lastHeartbeatTime=to_wire(_moment(at)))

    def stuck(self) -> Self:
        """Found silent."""
        return self._tell(phase=str(Phase.STUCK), reason=str(Reason.NO_HEARTBEAT))

    def ended(self, phase: Phase, at: float, reason: Reason = Reason.CANCELLED) -> Self:
        """Finished at this time."""
        return self._tell(phase=str(phase), reason=str(reason), completionTime=to_wire(_moment(at)))

    def acknowledged(self, at: float) -> Self:
        """Its holder said that it stopped."""
        condition = {"type": "CancelAcknowledged", "status": "True", "lastTransitionTime": to_wire(_moment(at))}
        return self._tell(conditions=[condition])

    def handed_back(self, reason: Reason, why: str = "no luck") -> Self:
        """Given up by its holder."""
        return self._tell(reason=str(reason), message=why)

    def observed(self, number: int) -> Self:
        """The retryAttempt that was acted on."""
        return self._tell(observedRetryAttempt=number)

    def failures(self, number: int) -> Self:
        """Attempts that count."""
        return self._tell(failures=number)

    def placed(self, position: int) -> Self:
        """Told this place in the queue."""
        return self._tell(queuePosition=position)

    # --- what it makes ---

    def body(self) -> Json:
        """As it is created."""
        meta = {"name": self.name, "annotations": self._annotations}
        return {"apiVersion": API_VERSION, "kind": "Delegation", "metadata": meta, "spec": self._spec}

    @property
    def work(self) -> Work:
        """As the operator keeps it."""
        return Work.read(self.obj)

    @property
    def obj(self) -> Json:
        """As the API server shows it."""
        meta = {**_meta(self.name), "creationTimestamp": to_wire(at(self._created)), "annotations": self._annotations}
        return {"metadata": meta, "spec": self._spec, "status": self._status}

    def _ask(self, **spec: object) -> Self:
        self._spec |= spec
        return self

    def _tell(self, **status: object) -> Self:
        self._status |= status
        return self


_moment = at


def delegation(name: str = "d") -> DelegationBuilder:
    """A delegation to agent `a`, as it was just created at `T0`."""
    return DelegationBuilder(name)


def live() -> SessionView:
    """A session that is attached."""
    return SessionView(live=True)


def lost(at: float, *, left: bool = False, closed: bool = False) -> SessionView:
    """A session that was lost then, or said goodbye, or was closed."""
    return SessionView(live=False, lost_at=_moment(at), left=left, closed=closed)


def agent(
    sessions: dict[str, SessionView] | None = None,
    *,
    exists: bool = True,
    runtime: Runtime = Runtime.CHANNEL,
    provider: str = "echo",
    slots: int = 1,
    suspended: bool = False,
    on_lost: OnAgentLost = OnAgentLost.CANCEL,
    offline_since: float | None = None,
    blind: bool = False,
    sighted: float = -10_000,
    brake_ends: float = -10_000,
    times: Times | None = None,
) -> AgentView:
    """Agent `a` as it is seen at one moment; without live sessions it is offline since the last was lost."""
    sessions = sessions or {}
    ends = [s.lost_at for s in sessions.values() if s.lost_at]
    since = at(offline_since) if offline_since is not None else max(ends, default=at(sighted))
    return AgentView(
        ref=Ref(NAMESPACE, "a"),
        exists=exists,
        times=times or Times(),
        runtime=runtime,
        provider=provider if runtime is Runtime.MODEL else None,
        max_active=slots,
        suspended=suspended,
        on_agent_lost=on_lost,
        sessions=sessions,
        offline_since=None if runtime is Runtime.MODEL or any(s.live for s in sessions.values()) else since,
        blind=blind,
        sighted_since=at(sighted),
        brake_ends=at(brake_ends),
    )


def row(
    session: str = "s",
    phase: SubscriptionPhase | None = SubscriptionPhase.LIVE,
    *,
    renewed: str | None = "r1",
    lost: float | None = None,
    reason: SubscriptionReason | None = None,
    holder: str | None = GATEWAY,
) -> Row:
    """The row of one session of agent `a`."""
    name = subscription_name("a", session)
    return Row(
        ref=Ref(NAMESPACE, name),
        uid=f"uid-{name}",
        version="1",
        agent=Ref(NAMESPACE, "a"),
        session=session,
        phase=phase,
        holder=holder,
        token="t1",
        renewed=renewed,
        disconnected=None if lost is None else at(lost),
        reason=reason,
        unresponsive=False,
    )


def lease(identity: str = GATEWAY, renewed: str = "r1", *, released: bool = False, touch: float = 0) -> GatewayLease:
    """The Lease of one gateway."""
    return GatewayLease(identity, renewed, released, touch)


def names(works: Sequence[Work]) -> list[str]:
    """Names only, for a readable comparison."""
    return [work.ref.name for work in works]


def _meta(name: str) -> Json:
    return {"namespace": NAMESPACE, "name": name, "uid": f"uid-{name}", "resourceVersion": "1", "generation": 1}
