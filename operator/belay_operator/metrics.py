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
        self.model_turns = Counter(
            "belay_model_turns_total", "Turns of Model agents, by outcome.", ("outcome",), registry=self.registry
        )
        self.model_tokens = Counter(
            "belay_model_tokens_total",
            "Tokens of Model agents, by namespace, agent and kind: input, output, cache_read, cache_write.",
            ("namespace", "agent", "kind"),
            registry=self.registry,
        )
        self.model_calls = Counter(
            "belay_model_calls_total",
            "Answers of models, by namespace and agent.",
            ("namespace", "agent"),
            registry=self.registry,
        )
        self.model_retries = Counter(
            "belay_model_retries_total",
            "Calls that failed in passing, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.model_seconds = Histogram(
            "belay_model_answer_seconds",
            "From a request to the last word of the answer, in seconds.",
            buckets=(0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000),
            registry=self.registry,
        )
        self.mail_waiting = Gauge("belay_mail_waiting", "Messages in mailboxes.", registry=self.registry)
        self.mail_age = Gauge(
            "belay_mail_oldest_seconds", "Age of the oldest message that starts a round.", registry=self.registry
        )
