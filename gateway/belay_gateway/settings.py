"""What a gateway can be told, by flag or by environment (`BELAY_<NAME>`); anything wrong is refused at the start."""

import re
import socket
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from belay_api.meta import DEFAULT_AUDIENCE
from belay_api.timing import Times
from belay_kube.reader import RESYNC_SECONDS
from belay_kube.scope import WatchNamespaces

PREFIX = "BELAY_"
_DEFAULTS = Times()


def new_identity() -> str:
    """A name no other process has, fit for a Lease: `belay-gateway-<host>-<8 hex>`."""
    host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")[:40]
    return "-".join(part for part in ("belay-gateway", host, uuid.uuid4().hex[:8]) if part)


def _digits(value: Any) -> Any:
    """Numbers in text are plain ASCII digits: not `1_0`, ` 5` or other scripts' digits, which `int` would take."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,18}", value):
        raise ValueError("not a whole number")
    return value


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Whole = Annotated[int, BeforeValidator(_digits)]
Words = Annotated[list[str], NoDecode, BeforeValidator(_words)]
GivenOrNone = Annotated[str | None, BeforeValidator(lambda value: value or None)]
_ORIGIN = r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*)(:[0-9]{1,5})?"
_SERVER = r"(nats|tls|wss?)://[^\s,/]+/?"


class Settings(BaseSettings):
    """All times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        use_attribute_docstrings=True,
    )

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to serve sockets, the HTTP API, probes and metrics on."""
    port: Whole = Field(default=8080, ge=0, le=65535)
    """Port of the same; 0 takes a free one."""
    namespace: str = Field(default="belay", pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """Namespace of this process' Lease."""
    watch_namespaces: WatchNamespaces = Field(default_factory=list)
    identity: str = Field(default_factory=new_identity, pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
    """Name of this process in Leases, rows and Events; no other process has it."""
    audience: str = Field(default=DEFAULT_AUDIENCE, min_length=1)
    """Audience that tokens must be made for."""
    kubeconfig: Path | None = None
    """Configuration to reach the API server with."""
    log_format: Literal["console", "json"] = "console"
    """How to log."""
    announce: bool = False
    """Print one line of JSON on standard output when ready."""
    allowed_origins: Words = Field(default_factory=list)
    """Exact origins a browser may come from; none by default."""

    bus_url: GivenOrNone = Field(default=None, repr=False)
    """NATS servers, `nats://host:4222`, separated by commas; only more than one gateway needs any (docs/bus.md)."""
    bus_token_file: Path | None = None
    """A file with the token that NATS asks for; read again at each connect."""
    bus_subject: str = Field(default="belay.broadcast", pattern=r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}$")
    """What the subjects begin with; each cluster that shares a NATS needs its own."""

    heartbeat_seconds: Whole = Field(default=_DEFAULTS.heartbeat, ge=1, le=3600)
    """Default of timing.heartbeatSeconds."""
    stale_after_seconds: Whole = Field(default=_DEFAULTS.stale_after, ge=2, le=86400)
    """Default of timing.staleAfterSeconds; at least twice the heartbeat."""
    grace_seconds: Whole = Field(default=_DEFAULTS.grace, ge=0, le=86400)
    """Default of timing.reconnectGraceSeconds."""
    deadline_seconds: Whole = Field(default=_DEFAULTS.deadline, ge=1, le=2592000)
    """Default of timing.deadlineSeconds."""
    stuck_threshold_seconds: Whole = Field(default=_DEFAULTS.stuck_threshold, ge=1, le=2592000)
    """Default of timing.stuckThresholdSeconds."""

    lease_renew_seconds: Whole = Field(default=5, ge=1, le=60)
    """Between two renewals of this process' Lease."""
    resync_seconds: Whole = Field(default=int(RESYNC_SECONDS), ge=1, le=86400)
    """Most until what a watch tells is compared with a list."""
    ws_ping_seconds: Whole = Field(default=5, ge=1, le=60)
    """Between two pings of a WebSocket."""
    handshake_seconds: Whole = Field(default=10, ge=1, le=60)
    """For a peer to say what it wants, and again for the review of its token."""
    keepalive_seconds: Whole = Field(default=75, ge=5, le=3600)
    """That a connection without a socket is kept after an answer; longer than a proxy in front keeps it."""
    body_seconds: Whole = Field(default=30, ge=1, le=600)
    """For the body of a request of the HTTP API to arrive."""
    close_seconds: Whole = Field(default=2, ge=1, le=60)
    """For a peer to read the last frames and to answer the close."""
    review_seconds: Whole = Field(default=300, ge=10, le=3600)
    """Between two reviews of a live socket's token and of its right to attach."""
    max_touches_per_second: Whole = Field(default=20, ge=1, le=1000)
    """Renewals of rows, of all sockets together; with more sockets each is renewed less often."""
    max_queue_per_socket: Whole = Field(default=256, ge=8, le=65536)
    """Frames that wait for a peer to read."""
    max_subscriptions_per_socket: Whole = Field(default=32, ge=1, le=1000)
    """Subscriptions on one socket."""
    max_sockets_per_user: Whole = Field(default=20_000, ge=1, le=1_000_000)
    """Sockets of one user at this gateway."""
    max_handshakes: Whole = Field(default=4096, ge=1, le=1_000_000)
    """Connections that ask for nothing yet, and again tokens under review."""
    max_token_bytes: Whole = Field(default=8192, ge=1024, le=65536)
    """Size of a token."""
    max_cached_reviews: Whole = Field(default=10_000, ge=1, le=1_000_000)
    """Answers remembered of who a token is (at most 10 s), and again of what a user may."""
    max_requests_per_second: Whole = Field(default=50, ge=1, le=100000)
    """Of the HTTP API: sustained, for each user at each gateway; five times as many may come at once."""
    max_broadcasts_per_second: Whole = Field(default=10, ge=1, le=10000)
    """Sustained, for each sender at each gateway; five times as many may come at once."""
    max_frames_per_second: Whole = Field(default=100, ge=1, le=100000)
    """Sustained, for each socket; five times as many may come at once."""
    drain_seconds: Whole = Field(default=5, ge=0, le=300)
    """Over which open sockets are told at a graceful end to come back elsewhere."""
    shutdown_seconds: Whole = Field(default=10, ge=1, le=300)
    """Most that a graceful end waits after that, for sockets, writes and rows together; `longest_end` is the whole."""

    @model_validator(mode="after")
    def _one_lost_beat_is_no_loss(self) -> "Settings":
        if self.stale_after_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(f"{PREFIX}STALE_AFTER_SECONDS must be at least 2 x {PREFIX}HEARTBEAT_SECONDS")
        return self

    @field_validator("allowed_origins")
    @classmethod
    def _origins_are_exact(cls, origins: list[str]) -> list[str]:
        """As a browser sends them; anything else would never match, or match too much."""
        wrong = [origin for origin in origins if not re.fullmatch(_ORIGIN, origin)]
        if wrong:
            form = "scheme://host[:port] in lower case, without a path, a trailing slash or *"
            raise ValueError(f"{wrong[0][:80]!r} is no origin as browsers send it: {form}")
        return origins

    @model_validator(mode="after")
    def _bus_has_an_address(self) -> "Settings":
        """Not a rule of the field, whose error would repeat the value, and a password in it."""
        if self.bus_url and not re.fullmatch(f"{_SERVER}(,{_SERVER})*", self.bus_url):
            forms = "nats://host:4222 (or tls://, ws://, wss://), several separated by commas"
            raise ValueError(f"{PREFIX}BUS_URL is not of the form {forms}")
        return self

    def times(self) -> Times:
        """The times in force where an agent sets none."""
        return Times(
            heartbeat=self.heartbeat_seconds,
            stale_after=self.stale_after_seconds,
            grace=self.grace_seconds,
            deadline=self.deadline_seconds,
            stuck_threshold=self.stuck_threshold_seconds,
        )
