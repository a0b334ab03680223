"""Whether a message was read, as far as that shows from outside of the operator. Pure.

A message stays in the mailbox until the turn that it enters is there, so one that is being answered looks like one that
waits; what a round has taken shows only in what else there is.
"""

from collections.abc import Iterable

from belay_api.agentsession import SessionPhase
from belay_api.pendingmessage import ACTIVE_TYPES, RETURNED
from belay_kube.client import Json


def is_surely_unread(message: Json, before: Json, now: Json, mail: Iterable[Json]) -> bool:
    """Whether no round has taken `message`, sent after the session stood as `before`; it stands as `now`, with `mail`.

    True without a round. A round takes one active message, the oldest (L8): one that is older is what it is about. And
    a round that had begun to say something before the message was sent can't have taken it.
    """
    here = list(mail)
    if message["metadata"]["uid"] not in {each["metadata"]["uid"] for each in here}:
        return False
    if (now.get("status") or {}).get("phase") != SessionPhase.AWAITING:
        return True
    return _had_begun(before, now) or any(_goes_first(each, message) for each in here)


def _had_begun(before: Json, now: Json) -> bool:
    """Whether the round of `now` said something already in `before`: each has a claim of its own."""
    status = before.get("status") or {}
    return bool(status.get("progress")) and status.get("claim", {}).get("token") == now["status"]["claim"]["token"]


def _goes_first(other: Json, message: Json) -> bool:
    """Whether a round would surely take `other` instead: a delegation's prompt may have to wait."""
    spec = other["spec"]
    waits = spec["type"] in ACTIVE_TYPES and (other.get("status") or {}).get("phase") not in RETURNED
    return waits and (spec.get("source") or {}).get("kind") != "Delegation" and _order(other) < _order(message)


def _order(message: Json) -> int:
    """Place in the order of creation, as the operator has it."""
    return int(message["metadata"]["resourceVersion"])
