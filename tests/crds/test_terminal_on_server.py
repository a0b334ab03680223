"""Completed, Failed and Cancelled are absorbing on the API server itself, however the write is made (D1, D2)."""

import asyncio
import json

import pytest

from belay_dev.controlplane import ControlPlane
from belay_dev.errors import ControlPlaneError
from belay_kube.client import APPLY, DELEGATIONS, Json, Kube
from belay_kube.errors import Invalid, Permanent
from crds_cases import PHASES, TERMINAL, delegation, in_phase, removal

ABSORBED = "can't change once the delegation is Completed, Failed or Cancelled|can't be removed"
REMOVALS: tuple[Json, ...] = ({"status": None}, {"status": {"phase": None}})


@pytest.fixture(scope="module")
async def ended(kubes: dict[str, Kube], shared: str) -> dict[str, Json]:
    """One Delegation in each terminal phase, with all that an end leaves."""
    made = await asyncio.gather(*(in_phase(kubes, shared, phase) for phase in TERMINAL))
    return dict(zip(TERMINAL, made, strict=True))


async def _refused(kube: Kube, obj: Json, body: object, **options: str) -> None:
    meta = obj["metadata"]
    with pytest.raises(Permanent, match=ABSORBED):
        await kube.patch(DELEGATIONS, meta["namespace"], meta["name"], body, subresource="status", **options)


def _applied(obj: Json, status: Json) -> Json:
    meta = {"name": obj["metadata"]["name"], "namespace": obj["metadata"]["namespace"]}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta, "status": status}


@pytest.mark.parametrize("writer", ["operator", "gateway", "admin"])
@pytest.mark.parametrize("source", TERMINAL)
async def test_D1_no_phase_follows_a_terminal_one(
    kubes: dict[str, Kube], ended: dict[str, Json], source: str, writer: str
) -> None:
    """Every other phase is refused, by merge patch and by server-side apply with force."""
    obj, kube = ended[source], kubes[writer]
    force = {"content_type": APPLY, "fieldManager": "test", "force": "true"}
    for target in set(PHASES) - {source}:
        await _refused(kube, obj, {"status": {"phase": target}})
        await _refused(kube, obj, _applied(obj, {"phase": target}), **force)


@pytest.mark.parametrize("body", REMOVALS, ids=json.dumps)
@pytest.mark.parametrize("source", TERMINAL)
async def test_D1_a_terminal_phase_can_not_be_removed(
    kubes: dict[str, Kube], ended: dict[str, Json], source: str, body: Json
) -> None:
    """Null for the phase or the whole status is refused."""
    await _refused(kubes["operator"], ended[source], body)


@pytest.mark.parametrize("path", ["/status", "/status/phase", "/status/reason", "/status/message", "/status/attempt"])
@pytest.mark.parametrize("source", TERMINAL)
async def test_D1_nothing_of_an_end_can_be_cut_out(
    kubes: dict[str, Kube], ended: dict[str, Json], source: str, path: str
) -> None:
    """A JSON patch that removes a part of the end is refused."""
    await _refused(kubes["operator"], ended[source], **removal(path))


REWRITES: dict[str, Json] = {
    "reason": {"reason": "Other"},
    "message": {"message": "otherwise"},
    "result changed": {"result": {"text": "other"}},
    "result added to": {"result": {"uri": "https://x"}},
    "result removed": {"result": None},
    "completion time changed": {"completionTime": "2027-01-01T00:00:00Z"},
    "completion time removed": {"completionTime": None},
    "attempt raised": {"attempt": 2},
}


@pytest.mark.parametrize("change", REWRITES.values(), ids=REWRITES)
@pytest.mark.parametrize("source", TERMINAL)
async def test_D1_an_end_is_not_rewritten(
    kubes: dict[str, Kube], ended: dict[str, Json], source: str, change: Json
) -> None:
    """What came of it, why and when stays as it was first told."""
    await _refused(kubes["operator"], ended[source], {"status": change})


async def test_D1_an_applied_end_can_not_be_given_up(kubes: dict[str, Kube], namespace: str) -> None:
    """A field manager that applied the end can't take it away by applying less."""
    obj = await in_phase(kubes, namespace, "Dispatched")

    async def apply(status: Json) -> Json:
        return await kubes["operator"].patch(
            DELEGATIONS,
            namespace,
            obj["metadata"]["name"],
            _applied(obj, status),
            subresource="status",
            content_type=APPLY,
            fieldManager="one",
            force="true",
        )

    await apply({"phase": "Failed", "queuePosition": 1})
    with pytest.raises(Invalid, match=ABSORBED):
        await apply({"queuePosition": 1})


def test_D1_an_end_can_not_be_replaced(installed: ControlPlane, ended: dict[str, Json]) -> None:
    """An administrator's `kubectl replace` of the status is refused as well."""
    for obj in ended.values():
        body = json.dumps({**obj, "status": {"phase": "Pending"}})
        with pytest.raises(ControlPlaneError, match=ABSORBED):
            installed.kubectl("replace", "--subresource=status", "-f", "-", input=body)


@pytest.mark.parametrize("writer", ["operator", "gateway"])
@pytest.mark.parametrize("source", TERMINAL)
async def test_D9_conditions_go_on_after_the_end(
    kubes: dict[str, Kube], ended: dict[str, Json], source: str, writer: str
) -> None:
    """The proof of a cancel may come later: conditions change, by either process."""
    condition = {
        "type": f"By{writer}",
        "status": "True",
        "reason": "Told",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    meta = ended[source]["metadata"]
    after = await kubes[writer].patch(
        DELEGATIONS, meta["namespace"], meta["name"], {"status": {"conditions": [condition]}}, subresource="status"
    )
    assert [c["type"] for c in after["status"]["conditions"]] == [f"By{writer}"]


@pytest.mark.parametrize("phase", PHASES[1:])
async def test_D2_the_same_write_again_is_a_no_op(kubes: dict[str, Kube], namespace: str, phase: str) -> None:
    """It succeeds and leaves the object as it was, its version included."""
    obj = await in_phase(kubes, namespace, phase)
    again = await kubes["operator"].patch_status(DELEGATIONS, obj, obj["status"])
    assert again == obj


@pytest.mark.parametrize("body", REMOVALS, ids=json.dumps)
async def test_D1_no_phase_can_be_removed(kubes: dict[str, Kube], namespace: str, body: Json) -> None:
    """Not a running one either: a delegation never starts anew."""
    obj = await in_phase(kubes, namespace, "InProgress")
    await _refused(kubes["operator"], obj, body)


async def test_D10_an_attempt_only_grows(kubes: dict[str, Kube], namespace: str) -> None:
    """An older or a missing number of the attempt is refused; the next is accepted."""
    made = await kubes["admin"].create(DELEGATIONS, namespace, delegation())
    obj = await kubes["operator"].patch_status(DELEGATIONS, made, {"phase": "Dispatched", "attempt": 2})
    for attempt in (1, None):
        with pytest.raises(Invalid, match=r"status\.attempt only grows"):
            await kubes["operator"].patch_status(DELEGATIONS, obj, {"attempt": attempt})
    after = await kubes["operator"].patch_status(DELEGATIONS, obj, {"phase": "Queued", "attempt": 3})
    assert after["status"]["attempt"] == 3


async def test_D6_a_result_is_bounded_in_bytes(kubes: dict[str, Kube], namespace: str) -> None:
    """A result of more than 64 KiB of UTF-8 is refused, and the refusal says what to do."""
    obj = await in_phase(kubes, namespace, "Dispatched")
    status = {"phase": "Completed", "result": {"text": "\U0001f600" * 16385}}
    with pytest.raises(Invalid, match="reply with a uri instead"):
        await kubes["gateway"].patch_status(DELEGATIONS, obj, status)
