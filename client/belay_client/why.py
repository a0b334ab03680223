"""`belay why`: why a delegation waits, is stuck or has ended; and what to do about it (D4, D9)."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from belay_api.agent import Runtime
from belay_api.delegation import DesiredState
from belay_api.times import from_wire, to_wire_seconds
from belay_api.transitions import TERMINAL, WAITING, Phase, phase_of
from belay_client import waiting
from belay_client.advice import ended_by, is_driven, to_do
from belay_client.cluster import Where, cluster
from belay_client.durations import age
from belay_client.follow import phase, printable
from belay_client.proving import Step, is_owed, steps
from belay_client.waiting import Facts, Place
from belay_kube.client import Json
from belay_kube.clock import SystemClock

MOST_NAMED = 5
"""Most of a kind that are named one by one."""


@dataclass(frozen=True)
class Report:
    """Where one delegation stands."""

    facts: Facts
    now: datetime
    place: Place | None
    held: Sequence[Json]
    steps: Sequence[Step]

    @classmethod
    def of(cls, facts: Facts, now: datetime) -> "Report":
        """What follows from the facts."""
        held = waiting.holding(facts) if _concerns_the_agent(facts.obj) else ()
        return cls(facts, now, waiting.place(facts, now), held, steps(facts.obj))

    def lines(self) -> list[str]:
        """What a person reads: the head, then one line a matter, what to do at last."""
        rows = list(_rows(self))
        width = max(len(label) for label, _ in rows)
        return [_head(self), *(printable(f"  {label:<{width}}  {text}") for label, text in rows)]

    def as_json(self) -> dict[str, Any]:
        """The same for programs: times as RFC 3339, what doesn't apply is null or empty."""
        obj, status = self.facts.obj, self.facts.obj.get("status") or {}
        count = waiting.slots(self.facts)
        return {
            "name": obj["metadata"]["name"],
            "agent": obj["spec"]["agentRef"]["name"],
            "phase": phase(obj),
            "reason": status.get("reason"),
            "message": status.get("message"),
            "since": _wire(waiting.since(obj)),
            "attempt": status.get("attempt"),
            "queue": {"position": self.place.position, "of": self.place.of} if self.place else None,
            "slots": {"used": len(self.held), "of": count} if count is not None else None,
            "heldBy": [held["metadata"]["name"] for held in self.held],
            "sessions": [row["spec"]["sessionId"] for row in waiting.live(self.facts)],
            "notBefore": _wire(waiting.next_offer(obj)),
            "deadline": _wire(waiting.deadline(self.facts)),
            "endedBy": ended_by(obj),
            "cancel": [{"step": s.word, "time": _wire(s.at), "message": s.message} for s in self.steps],
            "acknowledgementAwaited": is_owed(obj),
            "toDo": to_do(obj),
            "notAllowedToSee": list(self.facts.hidden),
        }


async def why(where: Where, name: str, output: str | None = None) -> str:
    """What is to be printed of one delegation. Raises ClientError."""
    async with cluster(where) as kube:
        facts = await waiting.gather(kube, where.resolved_namespace(), name)
    report = Report.of(facts, SystemClock().now())
    return json.dumps(report.as_json(), indent=2) if output == "json" else "\n".join(report.lines())


def _head(report: Report) -> str:
    """E.g. `book-7 is Queued (AgentBusy) since 4m12s`."""
    obj = report.facts.obj
    reason = (obj.get("status") or {}).get("reason")
    began = waiting.since(obj)
    stands = phase(obj) + (f" ({reason})" if reason not in (None, phase(obj)) else "")
    return printable(f"{obj['metadata']['name']} is {stands}" + (f" since {age(report.now - began)}" if began else ""))


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    """Label and text of each line under the head."""
    obj, status = report.facts.obj, report.facts.obj.get("status") or {}
    if status.get("message"):
        yield "why", status["message"]
    if obj["spec"].get("desiredState") == DesiredState.CANCELLED and phase(obj) not in TERMINAL:
        yield "cancel", "asked for; the operator has not got to it yet"
    if by := ended_by(obj):
        yield "ended by", by
    yield from _proof(report)
    yield from _progress(status)
    if _concerns_the_agent(obj):
        yield from _about_agent(report)
    yield from _times(report)
    yield "to do", to_do(obj)


def _proof(report: Report) -> Iterator[tuple[str, str]]:
    for step in report.steps:
        when = f", {age(report.now - step.at)} ago" if step.at else ""
        yield "cancel", f"{step.line()}{when}"
    if is_owed(report.facts.obj):
        yield "cancel", f"not acknowledged: {_holder(report)}"


def _holder(report: Report) -> str:
    """Who has to say that it stopped, and whether it can."""
    session = report.facts.obj["status"]["sessionId"]
    if is_driven(report.facts.obj):
        return f"AgentSession {session} has not been cut short yet"
    there = any(row["spec"]["sessionId"] == session for row in waiting.live(report.facts))
    return f"session {session} is {'attached' if there else 'not attached'}"


def _progress(status: Json) -> Iterator[tuple[str, str]]:
    progress = status.get("progress") or {}
    said = [f"{progress['percent']}%"] if progress.get("percent") is not None else []
    said += [progress["message"]] if progress.get("message") else []
    if said and status.get("phase") not in TERMINAL:
        yield "progress", " ".join(said)


def _about_agent(report: Report) -> Iterator[tuple[str, str]]:
    facts = report.facts
    if report.place:
        yield "queue", f"number {report.place.position} of {report.place.of}, by priority, then by waiting time"
    count = waiting.slots(facts)
    if count is not None:
        names = _named([f"{held['metadata']['name']} ({_doing(held, report.now)})" for held in report.held])
        yield "slots", f"{len(report.held)} of {count} in use{names}"
    if stuck := waiting.unanswered(facts):
        yield "stuck", f"{len(stuck)}{_named([obj['metadata']['name'] for obj in stuck])}"
    if facts.agent is not None and facts.agent["spec"].get("runtime") != Runtime.MODEL:
        yield "sessions", _sessions(facts, report.now)
    if facts.hidden:
        yield "not seen", f"you may not look at {', '.join(facts.hidden)}"


def _times(report: Report) -> Iterator[tuple[str, str]]:
    obj, status = report.facts.obj, report.facts.obj.get("status") or {}
    attempt, most = status.get("attempt") or 0, (obj["spec"].get("retry") or {}).get("maxAttempts", 1)
    if attempt > 1 or most > 1:
        yield "attempt", f"{attempt}, retry.maxAttempts is {most}"
    again = waiting.next_offer(obj)
    if again is not None and again > report.now:
        yield "not before", _until(again, report.now)
    due = waiting.deadline(report.facts)
    if due is not None and phase(obj) not in TERMINAL:
        yield "deadline", _until(due, report.now)


def _sessions(facts: Facts, now: datetime) -> str:
    here = waiting.live(facts)
    if here:
        names = [
            row["spec"]["sessionId"]
            + (" (has work it doesn't answer for)" if row["status"].get("unresponsive") else "")
            for row in here
        ]
        return f"{len(here)} attached{_named(names)}"
    gone = from_wire(((facts.agent or {}).get("status") or {}).get("offlineSince"))
    return "none attached" + (f", for {age(now - gone)}" if gone else "")


def _doing(held: Json, now: datetime) -> str:
    percent = (held["status"].get("progress") or {}).get("percent")
    began = waiting.since(held)
    parts = [phase(held), f"{percent}%" if percent is not None else "", age(now - began) if began else ""]
    return " ".join(part for part in parts if part)


def _named(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f": {', '.join(names[:MOST_NAMED])}{more}"


def _until(at: datetime, now: datetime) -> str:
    return f"{to_wire_seconds(at)}, " + (f"in {age(at - now)}" if at > now else f"{age(now - at)} ago")


def _wire(at: datetime | None) -> str | None:
    return to_wire_seconds(at) if at else None


def _concerns_the_agent(obj: Json) -> bool:
    """Whether what the agent does matters to it: it waits, or doesn't answer."""
    return phase_of(phase(obj)) in WAITING | {Phase.STUCK, Phase.DISPATCHED}
