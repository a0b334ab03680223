"""DelegationSweeper: the settings and the results of the backstop sweep; one object, named `default`."""

from datetime import datetime
from typing import ClassVar

from pydantic import Field

from belay_api.conditions import Condition, conditions_field
from belay_api.resource import Column, Kind, Part, Resource, Rule


class DelegationSweeperSpec(Part):
    """How often to sweep, and what counts as stuck; what is left out comes from the environment or the default."""

    interval_seconds: int | None = Field(default=None, ge=1, le=86400, description="Seconds between two sweeps (300).")
    stuck_threshold_seconds: int | None = Field(
        default=None, ge=1, le=2592000, description="Seconds without a heartbeat after which work is Stuck (600)."
    )
    suspend: bool = Field(default=False, description="Do not sweep; the fast path goes on.")


class Sweep(Part):
    """One sweep."""

    started_time: datetime | None = Field(default=None, description="When it began.")
    duration_milliseconds: int | None = Field(default=None, ge=0, description="How long it took, in milliseconds.")
    in_flight: int | None = Field(
        default=None, ge=0, description="Delegations it found Queued, Dispatched or InProgress."
    )
    deadline_failures: int | None = Field(default=None, ge=0, description="Delegations it failed at their deadline.")
    stuck_marked: int | None = Field(default=None, ge=0, description="Delegations it marked Stuck.")
    errors: int | None = Field(default=None, ge=0, description="Delegations or lists it could not read or write.")


class Totals(Part):
    """Sums over every sweep and the fast path."""

    sweeps: int | None = Field(default=None, ge=0, description="Sweeps done.")
    deadline_failures: int | None = Field(default=None, ge=0, description="Delegations failed at their deadline.")
    stuck_marked: int | None = Field(default=None, ge=0, description="Delegations marked Stuck.")
    expired: int | None = Field(default=None, ge=0, description="Finished delegations deleted after their time.")
    errors: int | None = Field(default=None, ge=0, description="Reads and writes that failed.")


class DelegationSweeperStatus(Part):
    """What the sweep did; written by the operator alone."""

    observed_generation: int | None = Field(default=None, ge=0, description="Generation this status was made for.")
    interval_seconds: int | None = Field(default=None, ge=1, description="The interval in force, in seconds.")
    stuck_threshold_seconds: int | None = Field(default=None, ge=1, description="The threshold in force, in seconds.")
    conditions: list[Condition] | None = conditions_field(
        "Braked: most sessions were lost at once, so their work is left alone for now."
    )
    last_sweep: Sweep | None = Field(default=None, description="The last sweep.")
    totals: Totals | None = Field(default=None, description="Sums since the operator started.")


class DelegationSweeper(Kind):
    """The DelegationSweeper named `default` tunes the backstop that fails overdue work and marks silent work Stuck."""

    RESOURCE: ClassVar[Resource] = Resource(
        kind="DelegationSweeper",
        plural="delegationsweepers",
        short="bsweep",
        columns=(
            Column("Interval", ".status.intervalSeconds", "integer"),
            Column("Stuck-After", ".status.stuckThresholdSeconds", "integer"),
            Column("Last", ".status.lastSweep.startedTime", "date"),
            Column("In-Flight", ".status.lastSweep.inFlight", "integer"),
            Column("Deadline", ".status.lastSweep.deadlineFailures", "integer"),
            Column("Stuck", ".status.lastSweep.stuckMarked", "integer"),
            Column("Errors", ".status.lastSweep.errors", "integer"),
            Column("Braked", '.status.conditions[?(@.type=="Braked")].status'),
            Column("Suspended", ".spec.suspend", "boolean", 1),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        rules=(
            Rule("self.metadata.name == 'default'", "metadata.name: there is one DelegationSweeper, named default"),
        ),
    )

    spec: DelegationSweeperSpec = Field(description="How often to sweep, and what counts as stuck.")
    status: DelegationSweeperStatus | None = Field(default=None, description="What the sweep did.")
