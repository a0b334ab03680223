"""`belay retry`: Stuck work gets its next attempt, finished work a new delegation that refers to it (S12)."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from belay_api.delegation import Delegation
from belay_api.meta import API_VERSION, GROUP
from belay_api.times import from_wire
from belay_api.transitions import TERMINAL, Phase, phase_of
from belay_client.cluster import Where, cluster
from belay_client.console import say
from belay_client.errors import ClientError
from belay_client.family import Ancestors, ancestors
from belay_client.follow import phase
from belay_client.proving import is_owed
from belay_kube.client import DELEGATIONS, Json, Kube
from belay_kube.clock import Clock, SystemClock
from belay_kube.errors import AlreadyExists, Conflict
from belay_kube.finding import find

_RESOURCE = f"{Delegation.RESOURCE.singular}.{GROUP}"
_RETRY = re.compile(r"(?P<base>.+)-retry-(?P<number>[1-9][0-9]{0,3})")
_NOT_REPEATED = frozenset({"desiredState", "retryAttempt", "requester", "retryOf"})
"""What belongs to the finished one: who asked, what became of it. The retry is asked for by the caller."""
_TRIES = 50
_MOST_NAME_CHARS = 240


async def retry(where: Where, name: str, output: str | None = None) -> str:
    """Try one delegation again; returns what is to be printed. Raises ClientError with why it can't be."""
    async with cluster(where) as kube:
        obj = await kube.get(DELEGATIONS, where.resolved_namespace(), name)
        again = await _raised(kube, obj) if phase(obj) == Phase.STUCK else await _repeated(kube, obj, SystemClock())
    if output == "json":
        return json.dumps(again, indent=2)
    made: str = again["metadata"]["name"]
    return f"{_RESOURCE}/{made}" if output == "name" else made


# --- Stuck ---


async def _raised(kube: Kube, obj: Json) -> Json:
    """Ask for the next attempt, on the state that was read: by now it may go on, or have ended."""
    meta, wanted = obj["metadata"], next_retry(obj)
    if wanted is None:
        say(f"{meta['name']} is to be retried already")
        return obj
    body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "spec": {"retryAttempt": wanted}}
    try:
        return await kube.patch(DELEGATIONS, meta["namespace"], meta["name"], body)
    except Conflict as error:
        now = await kube.get(DELEGATIONS, meta["namespace"], meta["name"])
        if phase(now) != Phase.STUCK:
            raise ClientError(refusal(now) or f"{meta['name']} is {phase(now)} by now: try again") from error
        raise ClientError(f"{meta['name']} was changed just now: try again") from error


def next_retry(obj: Json) -> int | None:
    """The spec.retryAttempt that makes the operator try Stuck work again; None when one is asked for already."""
    asked = obj["spec"].get("retryAttempt") or 0
    done = (obj.get("status") or {}).get("observedRetryAttempt") or 0
    return None if asked > done else done + 1


# --- finished ---


async def _repeated(kube: Kube, obj: Json, clock: Clock) -> Json:
    """Make the new delegation."""
    if why := refusal(obj):
        raise ClientError(why)
    if is_owed(obj):
        session = obj["status"]["sessionId"]
        say(f"session {session} has not yet said that it stopped {obj['metadata']['name']}: two may work on it for now")
    plan = plan_of(obj, await ancestors(kube, obj), clock.now())
    for note in plan.notes:
        say(note)
    return await _create(kube, obj, plan.spec)


def refusal(obj: Json) -> str | None:
    """Why a delegation that isn't Stuck can't be retried; None: it can."""
    name, at = obj["metadata"]["name"], phase_of(phase(obj))
    if at is Phase.COMPLETED:
        return f"{name} is Completed: there is nothing to retry; `belay delegate` makes a new one"
    if at not in TERMINAL and at is not Phase.STUCK:
        return f"{name} is {at}: it goes on by itself; `belay why {name}` says how, `belay cancel {name}` ends it"
    return None


@dataclass(frozen=True)
class Plan:
    """The specification of a retry, and what a person should know of it."""

    spec: Json
    notes: tuple[str, ...] = ()


def plan_of(obj: Json, above: Ancestors, now: datetime) -> Plan:
    """What a finished delegation is repeated as: the same, without what would end the retry at once."""
    spec: dict[str, Any] = {key: value for key, value in obj["spec"].items() if key not in _NOT_REPEATED}
    spec["retryOf"] = obj["metadata"]["name"]
    notes = []
    deadline = from_wire(spec.get("deadline"))
    if deadline is not None and deadline <= now:
        notes.append(f"its deadline {spec.pop('deadline')} is past: the retry has its agent's")
    if "parentRef" in spec and (cut := above.cut()):
        notes.append(f"{cut}: the retry is no part of it")
        del spec["parentRef"]
    return Plan(spec, tuple(notes))


async def _create(kube: Kube, obj: Json, spec: Json) -> Json:
    """Under the first free name. Raises ClientError when another retry is under way or was done."""
    namespace = obj["metadata"]["namespace"]
    base, number = parse_name(obj["metadata"]["name"])
    for offset in range(1, _TRIES + 1):
        name = retry_name(base, number + offset)
        try:
            return await kube.create(DELEGATIONS, namespace, _body({"name": name}, spec))
        except AlreadyExists:
            if why := standing(await find(kube, DELEGATIONS, namespace, name), base):
                raise ClientError(why) from None
    return await kube.create(DELEGATIONS, namespace, _body({"generateName": f"{base}-retry-"}, spec))


def standing(other: Json | None, base: str) -> str | None:
    """Why what has the retry's name stands in its way; None: it is over, or is something else."""
    if other is None:
        return None
    name, repeats = other["metadata"]["name"], other["spec"].get("retryOf")
    if repeats is None or parse_name(repeats)[0] != base:
        return None
    if phase(other) == Phase.COMPLETED:
        return f"{name}, its retry, is Completed: there is nothing to retry"
    if phase(other) not in TERMINAL:
        return f"{name} retries it already and is {phase(other)}: `belay why {name}` says how it goes"
    return None


def parse_name(name: str) -> tuple[str, int]:
    """What a name was made from, and the number of the retry: `d` is `d`, 0; `d-retry-2` is `d`, 2."""
    match = _RETRY.fullmatch(name)
    return (match["base"], int(match["number"])) if match else (name[:_MOST_NAME_CHARS].rstrip("-."), 0)


def retry_name(base: str, number: int) -> str:
    """The name of a retry."""
    return f"{base}-retry-{number}"


def _body(named: Json, spec: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": Delegation.RESOURCE.kind, "metadata": named, "spec": spec}
