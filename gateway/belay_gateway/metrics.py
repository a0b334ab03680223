"""What a gateway counts; one registry for each app, so that two in one process don't mix."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from belay_gateway.coalesce import Coalesced
from belay_gateway.refusals import Refusals


class Metrics:
    """Counters by the words of the protocol; never a name of an agent, a user or a delegation as a label."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sockets = self._gauge("sockets", "WebSockets open now.")
        self.sessions = self._gauge("sessions", "Sessions of agents attached now.")
        self.subscribes = self._counter("subscribes", "Subscribe commands by result.", "result")
        self.frames_in = self._counter("frames_received", "Frames of peers by kind.", "kind")
        self.frames_out = self._counter("frames_sent", "Frames to peers by kind.", "kind")
        self.refusals = Refusals(self._counter("refusals", "What was refused, by reason.", "reason"))
        self.disconnects = self._counter("disconnects", "Sockets closed by the gateway, by reason.", "reason")
        self.touches = self._counter("touches", "Renewals of rows by result.", "result")
        self.lease_renewals = self._counter(
            "lease_renewals", "Renewals of the gateway's own Lease by result.", "result"
        )
        self.row_writes = self._counter("row_writes", "Rows taken or marked, by kind and result.", "kind", "result")
        self.writes = self._counter("delegation_writes", "Writes to Delegations by action.", "action")
        self.conflicts = self._counter("write_conflicts", "Writes that were decided again, by resource.", "resource")
        self.hints = self._counter("write_hints", "Writes tried without a read that were out of date.", "result")
        self.reader_age = self._gauge("reader_age_seconds", "Seconds since each watch was last heard.", "reader")

        self.reviews = self._counter(
            "reviews", "Questions to the API server who someone is and what he may, by how they were answered.",
            "kind", "how",
        )  # fmt: skip
        self.reviews_in_flight = self._gauge("reviews_in_flight", "Reviews the API server is asked for now.", "kind")
        self.reviews_kept = self._gauge("reviews_kept", "Answers to reviews that are remembered.", "kind")

        self.broadcasts = self._counter("broadcasts", "Broadcasts sent here, by result.", "result")
        self.bus_messages = self._counter(
            "bus_messages", "Messages of other gateways, by what became of them.", "result"
        )
        self.unreached_gateways = self._gauge(
            "unreached_gateways", "Other gateways whose sockets broadcasts don't reach, as there is no bus."
        )

    def watch_reviews(self, kind: str, reviews: Coalesced[Any, Any]) -> None:
        """Show how a cache of reviews is used and how full it is."""
        reviews.counted = lambda how: self.reviews.labels(kind, how).inc()
        self.reviews_in_flight.labels(kind).set_function(lambda: float(reviews.in_flight))
        self.reviews_kept.labels(kind).set_function(lambda: float(len(reviews)))

    def watch_bus(self, is_connected: Callable[[], bool]) -> None:
        """Show whether the bus is connected; only where there is one."""
        self._gauge("bus_connected", "1 while the bus is connected.").set_function(lambda: float(is_connected()))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"belay_gateway_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"belay_gateway_{name}", text, labels, registry=self.registry)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
