"""The body of an Event, as both processes post it (events.k8s.io/v1)."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from belay_api.meta import API_VERSION, GROUP
from belay_api.names import Ref
from belay_api.times import to_wire
from belay_kube.client import Json

_NOTE_CHARS = 1000
"""The API server takes notes of at most 1 KiB."""


@dataclass(frozen=True)
class About:
    """The object an event is about."""

    kind: str
    ref: Ref
    uid: str


@dataclass(frozen=True)
class Reporter:
    """The process that reports: its component (`operator`, `gateway`) and its own name."""

    component: str
    identity: str


def event_body(
    about: About, reporter: Reporter, reason: str, action: str, note: str, now: datetime, *, warning: bool
) -> Json:
    """An Event to be created in the object's namespace; a long `note` is cut."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{about.ref.name[:200]}.{uuid.uuid4().hex[:16]}", "namespace": about.ref.namespace},
        "eventTime": to_wire(now),
        "reportingController": f"{GROUP}/{reporter.component}",
        "reportingInstance": reporter.identity[:128],
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "action": action,
        "note": note[:_NOTE_CHARS],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": about.kind,
            "namespace": about.ref.namespace,
            "name": about.ref.name,
            "uid": about.uid,
        },
    }
