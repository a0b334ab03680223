"""What the operator counts, for /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """One registry for each operator, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.changes = Counter(
            "belay_delegation_changes_total",
            "Delegations written by the operator, by new phase and reason.",
            ("phase", "reason"),
            registry=self.registry,
        )
        self.conflicts = Counter(
            "belay_operator_conflicts_total", "Writes that were decided again after a 409.", registry=self.registry
        )
        self.errors = Counter(
            "belay_operator_errors_total",
            "Keys that could not be worked on, by kind.",
            ("kind",),
            registry=self.registry,
        )
        self.events_dropped = Counter(
            "belay_operator_events_dropped_total", "Events not posted because too many waited.", registry=self.registry
        )
        self.lateness = Histogram(
            "belay_deadline_lateness_seconds",
            "From a deadline to the write that fails the delegation, in seconds.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60),
            registry=self.registry,
        )
        self.leader = Gauge("belay_operator_leader", "1 while this process leads.", registry=self.registry)
        self.watch_age = Gauge(
            "belay_operator_watch_age_seconds",
            "Seconds since each watch was heard.",
            ("watch",),
            registry=self.registry,
        )
        self.blind = Gauge("belay_operator_blind", "1 while nothing missing is taken for gone.", registry=self.registry)
        self.braked = Gauge(
            "belay_operator_braked",
            "1 while most of the fleet was lost at once: no grace ends.",
            registry=self.registry,
        )
        self.sweeps = Counter("belay_sweeps_total", "Sweeps that were made.", registry=self.registry)
        self.swept = Counter(
            "belay_swept_total",
            "What sweeps found, by kind: deadlineFailures, stuckMarked, errors.",
            ("kind",),
            registry=self.registry,
        )
        self.in_flight = Gauge("belay_delegations_in_flight", "Unfinished delegations known.", registry=self.registry)
        self.expired = Counter(
            "belay_delegations_expired_total",
            "Finished delegations deleted after their time to live.",
            registry=self.registry,
        )
