"""What a gateway counts; one registry for each app, so that two in one process don't mix."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """Counters by the words of the protocol; never a name of an agent, a user or a delegation as a label."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sockets = self._gauge("sockets", "WebSockets open now.")
        self.sessions = self._gauge("sessions", "Sessions of agents attached now.")
        self.subscribes = self._counter("subscribes", "Subscribe commands by result.", "result")
        self.frames_in = self._counter("frames_received", "Frames of peers by kind.", "kind")
        self.frames_out = self._counter("frames_sent", "Frames to peers by kind.", "kind")
        self.refusals = self._counter("refusals", "What was refused, by reason.", "reason")
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

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"belay_gateway_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"belay_gateway_{name}", text, labels, registry=self.registry)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
