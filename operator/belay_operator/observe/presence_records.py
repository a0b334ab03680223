"""What is kept of rows and of gateways' Leases: who is there, and until when (DESIGN.md sections 4 and 8)."""

from dataclasses import dataclass
from datetime import datetime

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.meta import ANNOTATION_TOUCH_SECONDS
from belay_api.names import Ref
from belay_api.times import from_wire
from belay_operator.observe.records import Json, ref_of


@dataclass(slots=True)
class Row:
    """An AgentSubscription: the presence of one session."""

    ref: Ref
    uid: str
    version: str
    agent: Ref
    session: str
    phase: SubscriptionPhase | None
    holder: str | None
    token: str | None
    renewed: str | None
    """renewTime as text: it is compared, never subtracted (DESIGN.md section 4)."""
    disconnected: datetime | None
    reason: str | None
    unresponsive: bool
    """Whether its gateway says that the session has work it doesn't answer for."""

    @classmethod
    def read(cls, obj: Json) -> "Row":
        """Read an AgentSubscription. Raises ValueError or KeyError when it isn't one."""
        meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
        return cls(
            ref=ref_of(obj),
            uid=meta["uid"],
            version=meta["resourceVersion"],
            agent=Ref(meta["namespace"], spec["agentRef"]["name"]),
            session=spec["sessionId"],
            phase=SubscriptionPhase(status["phase"]) if status.get("phase") else None,
            holder=status.get("holderIdentity"),
            token=status.get("token"),
            renewed=status.get("renewTime"),
            disconnected=from_wire(status.get("disconnectedTime")),
            reason=status.get("reason"),
            unresponsive=bool(status.get("unresponsive")),
        )

    @property
    def told(self) -> tuple[object, ...]:
        """What decisions are made on; a mere renewal leaves it as it is."""
        return self.phase, self.token, self.reason, self.unresponsive


@dataclass(slots=True)
class GatewayLease:
    """The Lease of one gateway process."""

    identity: str
    renewed: str | None
    released: bool
    touch_seconds: float

    @classmethod
    def read(cls, obj: Json) -> "GatewayLease":
        """Read a Lease; without a readable annotation its rows are taken to be touched at every heartbeat."""
        spec, meta = obj.get("spec") or {}, obj["metadata"]
        text = (meta.get("annotations") or {}).get(ANNOTATION_TOUCH_SECONDS, "0")
        try:
            touch = float(text)
        except ValueError:
            touch = 0.0
        return cls(meta["name"], spec.get("renewTime"), not spec.get("holderIdentity"), touch)
