"""Settings of the operator: by flag, by environment, else the default; wrong ones are refused at start by name.

The two sweeper variables are the exception: a value that isn't a whole number of at least 1 is logged and the default
is used, so that a typing error in them never keeps the operator from starting (S5).
"""

import re
import socket
import uuid
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from belay_api.timing import Times
from belay_kube.reader import RESYNC_SECONDS
from belay_kube.scope import WatchNamespaces
from belay_operator.decisions import ttl
from belay_operator.decisions.permissions import DEFAULT_KEEP_SECONDS
from belay_operator.drain.tending import DEFAULT_KEEP_SECONDS as MESSAGE_KEEP_SECONDS
from belay_operator.observe.fleet import BRAKE_SECONDS

log = structlog.get_logger(__name__)

_DEFAULTS = Times()
SWEEP_SECONDS = 300
MOST_SWEEP_SECONDS = 86_400
MOST_THRESHOLD_SECONDS = 2_592_000
"""What the definitions allow at most: the operator publishes these values in statuses."""
_WHOLE = re.compile(r"[1-9][0-9]{0,6}", re.ASCII)


class Settings(BaseSettings):
    """Every setting of the operator."""

    model_config = SettingsConfigDict(env_prefix="BELAY_", extra="ignore", cli_kebab_case=True, cli_implicit_flags=True)

    kubeconfig: Annotated[Path | None, Field(description="Configuration to reach the API server with.")] = None
    namespace: Annotated[str, Field(description="Namespace of the operator, its Lease and the gateways' Leases.")] = (
        "belay"
    )
    watch_namespaces: WatchNamespaces = Field(default_factory=list)
    identity: Annotated[str, Field(description="Name of this process in Leases and Events.")] = Field(
        default_factory=lambda: f"belay-operator-{socket.gethostname().split('.')[0].lower()}-{uuid.uuid4().hex[:8]}"
    )
    health_host: Annotated[str, Field(description="Address of /healthz, /readyz and /metrics.")] = "127.0.0.1"
    health_port: Annotated[int, Field(ge=0, le=65535, description="Port of the same; 0 takes a free one.")] = 8081
    workers: Annotated[int, Field(ge=1, le=256, description="Most writes at once.")] = 32
    heartbeat_seconds: Annotated[int, Field(ge=1, le=3600, description="Default of timing.heartbeatSeconds.")] = (
        _DEFAULTS.heartbeat
    )
    stale_after_seconds: Annotated[int, Field(ge=2, le=86400, description="Default of timing.staleAfterSeconds.")] = (
        _DEFAULTS.stale_after
    )
    grace_seconds: Annotated[int, Field(ge=0, le=86400, description="Default of timing.reconnectGraceSeconds.")] = (
        _DEFAULTS.grace
    )
    brake_seconds: Annotated[
        int, Field(ge=1, le=86400, description="Most that orphans are left alone after most sessions went at once.")
    ] = int(BRAKE_SECONDS)
    deadline_seconds: Annotated[int, Field(ge=1, le=2592000, description="Default of timing.deadlineSeconds.")] = (
        _DEFAULTS.deadline
    )
    sweeper_interval: Annotated[
        int, Field(validation_alias="DELEGATION_SWEEPER_INTERVAL_S", description="Seconds between two sweeps.")
    ] = SWEEP_SECONDS
    resync_seconds: Annotated[
        int, Field(ge=1, le=86400, description="Most until what a watch tells is compared with a list.")
    ] = int(RESYNC_SECONDS)
    ttl_seconds: Annotated[
        int, Field(ge=0, le=31536000, description="Default of ttlSecondsAfterFinished of delegations.")
    ] = ttl.DEFAULT_SECONDS
    permission_ttl_seconds: Annotated[
        int, Field(ge=0, le=31536000, description="How long settled permission requests are kept for a replay.")
    ] = DEFAULT_KEEP_SECONDS
    model_calls: Annotated[int, Field(ge=1, le=1000, description="Most calls to models at once.")] = 16
    message_ttl_seconds: Annotated[
        int, Field(ge=0, le=31536000, description="How long mail is kept that was Bounced, Parked, or for no session.")
    ] = MESSAGE_KEEP_SECONDS
    stuck_threshold: Annotated[
        int,
        Field(
            validation_alias="DELEGATION_STUCK_THRESHOLD_S",
            description="Seconds without a heartbeat after which work is Stuck.",
        ),
    ] = _DEFAULTS.stuck_threshold
    fast_path: Annotated[
        bool,
        Field(description="Act when something falls due; without it deadlines and silence wait for the next sweep."),
    ] = True
    lease_seconds: Annotated[int, Field(ge=2, le=600, description="How long a leader is waited for.")] = 12
    log_format: Annotated[Literal["console", "json"], Field(description="How to log.")] = "console"
    announce: Annotated[bool, Field(description="Print one line of JSON on standard output when ready.")] = False

    @field_validator("sweeper_interval", "stuck_threshold", mode="before")
    @classmethod
    def _whole_or_default(cls, value: object, info: object) -> int:
        name = getattr(info, "field_name", "")
        if name == "sweeper_interval":
            return whole_or(str(value), SWEEP_SECONDS, MOST_SWEEP_SECONDS, name)
        return whole_or(str(value), _DEFAULTS.stuck_threshold, MOST_THRESHOLD_SECONDS, name)

    def times(self) -> Times:
        """The times in force where neither agent nor DelegationSweeper says otherwise."""
        return Times(
            heartbeat=self.heartbeat_seconds,
            stale_after=self.stale_after_seconds,
            grace=self.grace_seconds,
            deadline=self.deadline_seconds,
            stuck_threshold=self.stuck_threshold,
        )


def whole_or(text: str, default: int, most: int, name: str) -> int:
    """`text` as a whole number of seconds, at least 1, in ASCII digits; else `default`, and that is logged (S5)."""
    if _WHOLE.fullmatch(text) and int(text) <= most:
        return int(text)
    message = "not a whole number of seconds of at least 1: the default is used"
    log.warning(message, setting=name, value=text, default=default)
    return default
