"""Sinks of the slim readers: agents, delegations, rows and Leases, by the thousand (DESIGN.md section 8)."""

from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from belay_api.names import Ref
from belay_kube.client import Json
from belay_operator.metrics import Metrics
from belay_operator.observe.mailbox_records import MessageRecord, SessionRecord
from belay_operator.observe.permissions import PermissionRecord
from belay_operator.observe.presence_records import GatewayLease, Row
from belay_operator.observe.records import AgentRecord, Work, parent_of, ref_of, version_of
from belay_operator.seen import Seen

log = structlog.get_logger(__name__)

R = TypeVar("R")


class EngineSink(Generic[R]):
    """Feeds one collection into what was seen; an object that can't be read is counted and skipped (S7)."""

    def __init__(
        self,
        name: str,
        seen: Seen,
        metrics: Metrics,
        read: Callable[[Json], R],
        saw: Callable[[R], None],
        gone: Callable[[Ref, str | None], None],
    ) -> None:
        self._name = name
        self._seen = seen
        self._metrics = metrics
        self._read = read
        self._saw = saw
        self._gone = gone

    def changed(self, obj: Json) -> None:
        """The object is there, as shown."""
        try:
            self._saw(self._read(obj))
        except (KeyError, ValueError, TypeError) as error:
            self._metrics.errors.labels(self._name).inc()
            log.warning("object can't be read and is skipped", kind=self._name, ref=str(ref_of(obj)), error=repr(error))

    def deleted(self, obj: Json) -> None:
        """The object is gone, or ended."""
        self._gone(ref_of(obj), version_of(obj))

    def synced(self) -> None:
        """Contact: if that ends a blind time, everything is looked at again."""
        self._seen.found_contact(self._name)

    def lost(self) -> None:
        """No contact."""
        self._seen.lost_contact(self._name)


class WorkSink(EngineSink[Work]):
    """Feeds delegations; contact after none may hide some that came and ended meanwhile."""

    def synced(self) -> None:
        """Contact, with a gap before it."""
        self._seen.on_gap()
        super().synced()


def delegations(seen: Seen, metrics: Metrics) -> WorkSink:
    """Unfinished delegations; one that leaves the selection has ended."""

    def read(obj: Json) -> Work:
        # First of all: one that can't be read is a child as well (D11).
        if parent := parent_of(obj):
            seen.on_parent(parent)
        return Work.read(obj)

    return WorkSink("delegations", seen, metrics, read, seen.saw_work, seen.gone_work)


def subscriptions(seen: Seen, metrics: Metrics) -> EngineSink[Row]:
    """Rows of sessions."""
    return EngineSink("subscriptions", seen, metrics, Row.read, seen.saw_row, seen.gone_row)


class QuietSink(EngineSink[R]):
    """Feeds a collection that says nothing of presence: to be without it blinds nobody."""

    def synced(self) -> None:
        """Nothing waits for it here."""

    def lost(self) -> None:
        """What was seen stays in use: every write carries the version it was decided on."""


def agents(seen: Seen, metrics: Metrics) -> QuietSink[AgentRecord]:
    """Agents."""
    return QuietSink("agents", seen, metrics, AgentRecord.read, seen.saw_agent, seen.gone_agent)


def permissions(seen: Seen, metrics: Metrics) -> QuietSink[PermissionRecord]:
    """Permission requests, settled ones too: they are removed in time."""
    return QuietSink("permissions", seen, metrics, PermissionRecord.read, seen.saw_permission, seen.gone_permission)


def sessions(seen: Seen, metrics: Metrics) -> QuietSink[SessionRecord]:
    """Sessions of Model agents."""
    return QuietSink("sessions", seen, metrics, SessionRecord.read, seen.saw_session, seen.gone_session)


def messages(seen: Seen, metrics: Metrics) -> QuietSink[MessageRecord]:
    """Mail of these sessions, without what it says."""
    return QuietSink("messages", seen, metrics, MessageRecord.read, seen.saw_message, seen.gone_message)


def leases(seen: Seen, metrics: Metrics) -> EngineSink[GatewayLease]:
    """Leases of gateways."""

    def gone(ref: Ref, _: str | None) -> None:
        seen.presence.lease_gone(ref.name)

    return EngineSink("leases", seen, metrics, GatewayLease.read, seen.saw_lease, gone)
