"""The few facts that everything here reads from an object of the API server."""

from belay_api import ending
from belay_api.names import Ref
from belay_api.transitions import Phase, phase_of
from belay_kube.client import Json


def ref_of(obj: Json) -> Ref:
    """Its namespace and name."""
    return Ref(obj["metadata"]["namespace"], obj["metadata"]["name"])


def agent_of(delegation: Json) -> Ref:
    """The agent a delegation is for."""
    return Ref(delegation["metadata"]["namespace"], delegation["spec"]["agentRef"]["name"])


def phase_in(delegation: Json) -> Phase:
    """Where a delegation stands."""
    return phase_of((delegation.get("status") or {}).get("phase"))


def attempt_of(delegation: Json) -> int:
    """The attempt of a delegation; the first, while nobody has counted."""
    return int((delegation.get("status") or {}).get("attempt") or 1)


def ended_by_others(delegation: Json) -> bool:
    """Whether it had a holder and ended for a reason that the holder didn't give."""
    return ending.ended_by_others(delegation.get("status") or {})
