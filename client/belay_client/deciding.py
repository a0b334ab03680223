"""`belay approve` and `belay deny`: permission requests are decided through the Kubernetes API, in one's own name."""

from typing import Any

from pydantic import ValidationError

from belay_api.meta import GROUP
from belay_api.permissionrequest import Behavior, Decision, PermissionPhase, PermissionRequest
from belay_client.cluster import Where, cluster, is_not_installed
from belay_client.errors import ClientError, UsageError
from belay_client.follow import printable
from belay_kube.client import PERMISSION_REQUESTS, Collection, Json, Kube
from belay_kube.errors import Conflict, Forbidden, Invalid, NotFound

_SELF_REVIEWS = Collection("apis/authentication.k8s.io/v1", "selfsubjectreviews")
_RESOURCE = f"{PermissionRequest.RESOURCE.singular}.{GROUP}"
_SHOWN_CHARS = 200
"""As long as Claude Code's previews are."""
_WORDS = {Behavior.ALLOW: "allowed", Behavior.DENY: "denied"}


async def decide(where: Where, name: str, behavior: Behavior, reason: str | None) -> str:
    """Decide one request; returns the line that says so. Deciding the same again is fine.

    Raises ClientError with who decided otherwise, why it has expired, or which right is missing.
    """
    namespace = where.resolved_namespace()
    async with cluster(where) as kube:
        me = await whoami(kube)
        request = await _read(kube, namespace, name)
        if decided := _standing(request, behavior):
            return decided
        try:
            request = await _write(kube, request, _decision(behavior, reason, me))
        except (Conflict, Invalid):
            # Somebody was first, or it expired just now: what stands there says which.
            decided = _standing(await kube.get(PERMISSION_REQUESTS, namespace, name), behavior)
            if decided is None:
                raise
            return decided
        except Forbidden as error:
            raise ClientError(
                f"not allowed: {error.message}; to decide takes the right to patch permissionrequests in {namespace}"
            ) from error
    return f"{_RESOURCE}/{name} {_WORDS[behavior]}: {_question(request)}"


async def _read(kube: Kube, namespace: str, name: str) -> Json:
    try:
        return await kube.get(PERMISSION_REQUESTS, namespace, name)
    except NotFound as error:
        if is_not_installed(error):
            raise
        raise ClientError(
            f"no permission request {name} in namespace {namespace}; `kubectl get bperm -n {namespace}` lists them"
        ) from error


async def whoami(kube: Kube) -> str:
    """What the API server calls the caller. Raises KubeError."""
    review = await kube.create(_SELF_REVIEWS, None, {})
    return str(review["status"]["userInfo"]["username"])


def _decision(behavior: Behavior, reason: str | None, me: str) -> Decision:
    try:
        return Decision(behavior=behavior, reason=reason or None, decided_by=me)
    except ValidationError as error:
        raise UsageError("; ".join(f"--{e['loc'][0]}: {e['msg']}" for e in error.errors())) from error


async def _write(kube: Kube, request: Json, decision: Decision) -> Json:
    meta = request["metadata"]
    change: dict[str, Any] = {"spec": {"decision": decision.wire()}}
    return await kube.patch(PERMISSION_REQUESTS, meta["namespace"], meta["name"], change)


def _standing(request: Json, wanted: Behavior) -> str | None:
    """The line for what was decided so already; None while nobody has decided. Raises ClientError when it can't be."""
    name, status = request["metadata"]["name"], request.get("status") or {}
    if decision := request["spec"].get("decision"):
        behavior, by = Behavior(decision["behavior"]), printable(decision.get("decidedBy") or "somebody")
        if behavior is wanted:
            return f"{_RESOURCE}/{name} was {_WORDS[wanted]} before, by {by}: {_question(request)}"
        why = f" ({printable(decision['reason'])})" if decision.get("reason") else ""
        raise ClientError(f"{name} was {_WORDS[behavior]} by {by}{why} already: a decision is final")
    if status.get("phase") == PermissionPhase.EXPIRED:
        why = printable(status.get("message") or status.get("reason") or "")
        raise ClientError(f"{name} has expired: {why}; the agent has to ask again")
    return None


def _question(request: Json) -> str:
    """What was asked, in one line without control characters: agents choose these words.

    Both the description and what it describes, so that neither hides the other.
    """
    spec = request["spec"]
    told = ": ".join(_short(spec[field]) for field in ("description", "inputPreview") if spec.get(field))
    return printable(f"{_short(spec['tool'])} for agent {spec['agentRef']['name']}" + (f", {told}" if told else ""))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
