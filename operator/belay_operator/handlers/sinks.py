"""Sinks of the slim readers: delegations, rows and gateway Leases, by the thousand (DESIGN.md section 8)."""

from collections.abc import Callable

import structlog

from belay_kube.client import Json
from belay_operator.metrics import Metrics
from belay_operator.observe.records import AgentRecord, GatewayLease, Row, Work, ref_of, version_of
from belay_operator.seen import Seen

log = structlog.get_logger(__name__)


class EngineSink:
    """Feeds one collection into what was seen; an object that can't be read is counted and skipped (S7)."""

    def __init__(
        self,
        name: str,
        seen: Seen,
        metrics: Metrics,
        changed: Callable[[Json], None],
        deleted: Callable[[Json], None],
    ) -> None:
        self._name = name
        self._seen = seen
        self._metrics = metrics
        self._changed = changed
        self._deleted = deleted

    def changed(self, obj: Json) -> None:
        """The object is there, as shown."""
        try:
            self._changed(obj)
        except (KeyError, ValueError, TypeError) as error:
            self._metrics.errors.labels(self._name).inc()
            log.warning("object can't be read and is skipped", kind=self._name, ref=str(ref_of(obj)), error=repr(error))

    def deleted(self, obj: Json) -> None:
        """The object is gone, or ended."""
        self._deleted(obj)

    def synced(self) -> None:
        """Contact: if that ends a blind time, everything is looked at again."""
        self._seen.found_contact(self._name)

    def lost(self) -> None:
        """No contact."""
        self._seen.lost_contact(self._name)


def agents(seen: Seen, metrics: Metrics) -> EngineSink:
    """Agents, as kopf tells of them."""
    return EngineSink(
        "agents",
        seen,
        metrics,
        lambda o: seen.saw_agent(AgentRecord.read(o)),
        lambda o: seen.gone_agent(ref_of(o), version_of(o)),
    )


def delegations(seen: Seen, metrics: Metrics) -> EngineSink:
    """Unfinished delegations; one that leaves the selection has ended."""
    return EngineSink(
        "delegations",
        seen,
        metrics,
        lambda o: seen.saw_work(Work.read(o)),
        lambda o: seen.gone_work(ref_of(o), version_of(o)),
    )


def subscriptions(seen: Seen, metrics: Metrics) -> EngineSink:
    """Rows of sessions."""
    return EngineSink(
        "subscriptions",
        seen,
        metrics,
        lambda o: seen.saw_row(Row.read(o)),
        lambda o: seen.gone_row(ref_of(o), version_of(o)),
    )


def leases(seen: Seen, metrics: Metrics) -> EngineSink:
    """Leases of gateways."""

    def changed(obj: Json) -> None:
        seen.saw_lease(GatewayLease.read(obj))

    return EngineSink("leases", seen, metrics, changed, lambda o: seen.presence.lease_gone(ref_of(o).name))
