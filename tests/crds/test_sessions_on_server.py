"""Sessions, mail and turns on the API server: what is accepted, and what stays as it was said (DESIGN.md section 5)."""

from collections.abc import Mapping
from typing import Any

import pytest

from belay_api.meta import API_VERSION
from belay_api.names import opened_session_name, turn_name
from belay_kube.client import APPLY, MESSAGES, SESSIONS, TURNS, Collection, Json, Kube
from belay_kube.errors import Invalid, KubeError, NotFound, Permanent
from crds_cases import message, removal, session, turn
from waiting import eventually

COLLECTIONS = {"AgentSession": SESSIONS, "PendingMessage": MESSAGES, "SessionTurn": TURNS}
SMILE = "\U0001f600"
SECONDS = 60.0
"""For the garbage collector, which learns of new kinds every now and then."""

SAID: Json = {"type": "Text", "text": "I see"}
CALLED: Json = {"type": "ToolUse", "toolUseId": "toolu_1", "name": "delegate", "input": '{"agent": "b"}'}
FULL_TURN: Json = {
    "reason": "Rejected",
    "message": "it said no",
    "user": [
        {"type": "ToolResult", "toolUseId": "toolu_0", "text": "", "isError": True},
        {"type": "Text", "text": "x"},
    ],
    "assistant": [SAID, CALLED],
    "consumed": [{"uid": "u", "name": "m", "type": "Background", "source": {"kind": "Tool", "name": "t"}}],
    "model": "echo",
    "usage": {"calls": 1, "inputTokens": 2**40, "outputTokens": 3, "cacheReadTokens": 4, "cacheWriteTokens": 5},
    "stopReason": "tool_use",
    "startedTime": "2026-01-02T03:04:05.000006Z",
    "completedTime": "2026-01-02T03:04:06.000006Z",
}
LARGE_TURN = {"user": [{"type": "Text", "text": "x" * 65536}] * 15, "assistant": [SAID] * 128}
ANSWER: Json = {"type": "ToolResponse", "toolUseId": "toolu_1"}

ACCEPTED: dict[str, tuple[str, Json]] = {
    "session, least": ("admin", session("least")),
    "session, everything": (
        "admin",
        session("full", parentRef={"kind": "Delegation", "name": "d"}, interruptRequest="now"),
    ),
    "session, name of 63": ("admin", session("n" * 63)),
    "session, opened for a delegation": ("operator", session(opened_session_name("a" * 63, "uid"))),
    "message, least": ("admin", message("least")),
    "message, of exactly 64 KiB": ("admin", message("large", content=SMILE * 16384)),
    "message, line breaks and tabs": ("admin", message("lines", content="a\n\tb")),
    "message, everything": (
        "operator",
        message("full", **ANSWER, source={"kind": "Tool", "name": "delegate"}, success=False, bounceBack=True),
    ),
    "message, a tool that says nothing": ("operator", message("silent", **ANSWER, content="")),
    "turn, least": ("operator", turn(1)),
    "turn, everything": ("operator", turn(2, **FULL_TURN)),
    "turn, near the most an object can be": ("operator", turn(3, **LARGE_TURN)),
    "turn, of the longest name": (
        "operator",
        {**turn(2**31 - 1, sessionRef={"name": "n" * 63}), "metadata": {"name": turn_name("n" * 63, 2**31 - 1)}},
    ),
}


@pytest.mark.parametrize(("by", "body"), ACCEPTED.values(), ids=ACCEPTED)
async def test_what_makes_sense_is_accepted(kubes: dict[str, Kube], shared: str, by: str, body: Json) -> None:
    """Each kind can be made, and comes back as it was given."""
    made = await kubes[by].create(COLLECTIONS[body["kind"]], shared, body)
    assert {key: made["spec"][key] for key in body["spec"]} == body["spec"]


async def test_defaults_are_those_of_the_models(kubes: dict[str, Kube], namespace: str) -> None:
    """A message is a user's and is kept for another try; tokens that nobody counted are none."""
    made = await kubes["admin"].create(SESSIONS, namespace, session())
    assert made["spec"] == session()["spec"]
    made = await kubes["admin"].create(MESSAGES, namespace, message(source={"name": "belay-admin"}))
    source = {"kind": "User", "name": "belay-admin"}
    assert made["spec"] == {**message()["spec"], "type": "UserMessage", "source": source, "bounceBack": False}
    made = await kubes["operator"].create(TURNS, namespace, turn(usage={"calls": 1}))
    assert set(made["spec"]["usage"].values()) == {0, 1}
    assert len(made["spec"]["usage"]) == 5


REFUSED: dict[str, tuple[Json, str]] = {
    "session of no agent": ({**session(), "spec": {}}, "spec.agentRef: Required"),
    "session's name of 64": (session("n" * 64), "at most 63 characters, turns are named after it"),
    "session, empty interrupt": (session(interruptRequest=""), "spec.interruptRequest"),
    "session, interrupt of two lines": (session(interruptRequest="a\nb"), "spec.interruptRequest"),
    "message to no session": ({**message(), "spec": {"content": "x"}}, "spec.sessionRef: Required"),
    "message without content": ({**message(), "spec": {"sessionRef": {"name": "s"}}}, "spec.content: Required"),
    "message of nothing": (message(content=""), "say something; only a ToolResponse may be empty"),
    "message one byte too long": (message(content="x" * 65537), "spec.content"),
    "message too long in bytes only": (message(content=SMILE * 16385), "more than 64 KiB of UTF-8"),
    "message with a NUL": (message(content="a\0b"), "contains a NUL character"),
    "message of an unknown type": (message(type="Chat"), "spec.type"),
    "response to no call": (message(type="ToolResponse"), "goes with type ToolResponse, which needs it"),
    "call that no response answers": (message(toolUseId="toolu_1"), "goes with type ToolResponse, which needs it"),
    "call with a blank": (message(type="ToolResponse", toolUseId="a b"), "spec.toolUseId"),
    "success of a user": (message(success=True), "spec.success: goes with type ToolResponse"),
    "source of an unknown kind": (message(source={"kind": "Group", "name": "g"}), "spec.source.kind"),
    "source of two lines": (message(source={"name": "a\nb"}), "spec.source.name"),
    "turn of another name": ({**turn(), "metadata": {"name": "s-2"}}, "is <session>-<sequence>"),
    "turn with a leading zero": ({**turn(7), "metadata": {"name": "s-07"}}, "is <session>-<sequence>"),
    "turn of another session": (turn(sessionRef={"name": "t"}), "is <session>-<sequence>"),
    "turn 0": (turn(0), "spec.sequence"),
    "turn that ended otherwise": (turn(outcome="Lost"), "spec.outcome"),
    "turn of 129 blocks": (turn(assistant=[SAID] * 129), "spec.assistant"),
    "turn with one message twice": (turn(consumed=FULL_TURN["consumed"] * 2), "Duplicate value"),
    "block of an unknown type": (turn(user=[{"type": "Image"}]), "spec.user"),
}


@pytest.mark.parametrize(("body", "said"), REFUSED.values(), ids=REFUSED)
async def test_what_makes_no_sense_is_refused(operator_kube: Kube, shared: str, body: Json, said: str) -> None:
    """The refusal names the field, or says what to do; nothing is made, not even by the operator."""
    with pytest.raises(KubeError) as refusal:
        await operator_kube.create(COLLECTIONS[body["kind"]], shared, body)
    assert refusal.value.status in (400, 422)
    assert said in refusal.value.message
    assert len(refusal.value.message) < 1000


@pytest.fixture(scope="module")
async def standing(kubes: dict[str, Kube], shared: str) -> Mapping[str, Json]:
    """A session, a message and a turn with every field that must stay."""
    source = {"kind": "Tool", "name": "delegate"}
    mail = message("kept", **ANSWER, source=source, success=True)
    return {
        "AgentSession": await kubes["admin"].create(SESSIONS, shared, session("kept", parentRef={"name": "d"})),
        "PendingMessage": await kubes["operator"].create(MESSAGES, shared, mail),
        "SessionTurn": await kubes["operator"].create(TURNS, shared, turn(9, **FULL_TURN)),
    }


CHANGES: dict[str, Mapping[str, Any]] = {
    "AgentSession": {"agentRef": {"name": "b"}, "parentRef": {"name": "e"}},
    "PendingMessage": {
        "sessionRef": {"name": "t"},
        "type": "Background",
        "source": {"name": "other"},
        "content": "other",
        "toolUseId": "toolu_2",
        "success": False,
        "bounceBack": True,
    },
    "SessionTurn": {
        "outcome": "Parked",
        "sequence": 10,
        "reason": "Other",
        "user": [],
        "assistant": [CALLED, SAID],
        "consumed": [],
        "model": "other",
        "usage": {"outputTokens": 4},
        "completedTime": "2026-01-02T03:04:07.000006Z",
    },
}
STAYS = [(kind, field) for kind, fields in CHANGES.items() for field in fields]


@pytest.mark.parametrize(("kind", "field"), STAYS, ids=[f"{kind}.{field}" for kind, field in STAYS])
async def test_what_was_said_stays(
    admin_kube: Kube, standing: Mapping[str, Json], shared: str, kind: str, field: str
) -> None:
    """It can be neither changed nor removed."""
    collection, name = COLLECTIONS[kind], standing[kind]["metadata"]["name"]
    said = r"can't be changed|: Required|: goes with type ToolResponse"
    with pytest.raises(Invalid, match=said):
        await admin_kube.patch(collection, shared, name, {"spec": {field: CHANGES[kind][field]}})
    if field in ("type", "bounceBack"):  # which would get their default again
        return
    with pytest.raises(Invalid, match=said):
        await admin_kube.patch(collection, shared, name, **removal(f"/spec/{field}"))


ADDED = {
    "AgentSession": ("least-session", session("least-session"), {"parentRef": {"name": "d"}}),
    "PendingMessage": ("least-message", message("least-message"), {"source": {"name": "late"}}),
    "SessionTurn": ("s-20", turn(20), {"message": "late"}),
}


@pytest.mark.parametrize(("name", "body", "late"), ADDED.values(), ids=ADDED)
async def test_nothing_is_added_later(kubes: dict[str, Kube], shared: str, name: str, body: Json, late: Json) -> None:
    """What was not said when it was made is not said afterwards."""
    collection = COLLECTIONS[body["kind"]]
    await kubes["operator"].create(collection, shared, body)
    with pytest.raises(Invalid, match="can't be changed"):
        await kubes["admin"].patch(collection, shared, name, {"spec": late})


async def test_a_turn_can_not_be_applied_over(admin_kube: Kube, standing: Mapping[str, Json], shared: str) -> None:
    """Nor by server-side apply with force, of another spec or of less of it; finalizers, labels and owners are free."""
    name = standing["SessionTurn"]["metadata"]["name"]
    force = {"content_type": APPLY, "fieldManager": "test", "force": "true"}
    for changed in ({"outcome": "Bounced"}, {"user": [SAID]}, {"model": "x"}):
        body = turn(9, **{**FULL_TURN, **changed})
        with pytest.raises(Invalid, match="a turn is what happened"):
            await admin_kube.patch(TURNS, shared, name, body, **force)
    kept = await admin_kube.patch(TURNS, shared, name, turn(9, **FULL_TURN), **force)
    assert kept["spec"] == standing["SessionTurn"]["spec"]
    owner = {"apiVersion": API_VERSION, "kind": "AgentSession", "name": "kept", "uid": "u"}
    free = {"finalizers": ["example.com/held"], "labels": {"a": "b"}, "ownerReferences": [owner]}
    after = await admin_kube.patch(TURNS, shared, name, {"metadata": free}, dryRun="All")
    assert {key: after["metadata"][key] for key in free} == free


async def test_L17_an_interrupt_can_be_asked_again_and_not_taken_back(admin_kube: Kube, namespace: str) -> None:
    """Any new value is another one; none is no value."""
    await admin_kube.create(SESSIONS, namespace, session())
    for value in ("1", "2"):
        after = await admin_kube.patch(SESSIONS, namespace, "s", {"spec": {"interruptRequest": value}})
        assert after["spec"]["interruptRequest"] == value
    with pytest.raises(Invalid, match=r"spec\.interruptRequest: can't be removed"):
        await admin_kube.patch(SESSIONS, namespace, "s", {"spec": {"interruptRequest": None}})


CLAIM = {"holderIdentity": "op", "token": "t", "renewTime": "2026-01-02T03:04:05.000006Z", "durationSeconds": 30}
CALL = {"id": "toolu_1", "tool": "delegate", "startedTime": "2026-01-02T03:04:05Z", "delegation": "d"}
WAITING_ON: Json = {"phase": "Awaiting", "claim": CLAIM, "turns": 3, "openToolCalls": [CALL], "serving": ["d"]}
STATUSES: dict[str, tuple[Json, str | None]] = {
    "renewed": ({"claim": {**CLAIM, "renewTime": "2026-01-02T03:04:15.000006Z"}, "progress": "so far"}, None),
    "taken over": ({"claim": {**CLAIM, "holderIdentity": "other", "token": "u"}}, None),
    "released": ({"phase": "Idle", "claim": None, "turns": 4, "openToolCalls": None, "serving": None}, None),
    "released to tools": ({"phase": "Executing", "claim": None, "turns": 4, "executor": "op"}, None),
    "claim left behind": ({"phase": "Idle"}, "status.claim: there while Awaiting, and only then"),
    "claim lost": ({"claim": None}, "status.claim: there while Awaiting, and only then"),
    "turn lost": ({"turns": 2}, "status.turns only grows"),
    "turns forgotten": ({"turns": None}, "status.turns only grows"),
    "phase removed": ({"phase": None, "claim": None}, "status.phase can't be removed"),
    "unknown phase": ({"phase": "Thinking", "claim": None}, "status.phase"),
    "one call twice": ({"openToolCalls": [CALL, CALL]}, "Duplicate value"),
    "one delegation twice": ({"serving": ["d", "d"]}, "Duplicate value"),
    "progress without end": ({"progress": "x" * 1025}, "status.progress"),
}


@pytest.fixture(scope="module")
async def claimed(kubes: dict[str, Kube], shared: str) -> Json:
    """A session that is being drained; patches of it are dry runs."""
    made = await kubes["admin"].create(SESSIONS, shared, session("claimed"))
    return await kubes["operator"].patch_status(SESSIONS, made, WAITING_ON)


@pytest.mark.parametrize(("change", "said"), STATUSES.values(), ids=STATUSES)
async def test_L3_a_claim_is_there_while_awaiting(
    operator_kube: Kube, claimed: Json, change: Json, said: str | None
) -> None:
    """A session is claimed, renewed, taken over and released whole; what was counted isn't forgotten."""
    meta = claimed["metadata"]
    patch = operator_kube.patch(
        SESSIONS, meta["namespace"], meta["name"], {"status": change}, subresource="status", dryRun="All"
    )
    if said is None:
        after = await patch
        assert {key: after["status"].get(key) for key in change} == change
        return
    with pytest.raises(Permanent) as refusal:
        await patch
    assert said in refusal.value.message


async def test_a_status_can_not_be_cut_off(operator_kube: Kube, claimed: Json) -> None:
    """A session doesn't begin anew: its status as a whole stays."""
    meta = claimed["metadata"]
    with pytest.raises(Invalid, match=r"can't be removed|only grows"):
        await operator_kube.patch(
            SESSIONS, meta["namespace"], meta["name"], {"status": None}, subresource="status", dryRun="All"
        )


async def test_L3_one_of_two_claims_wins(operator_kube: Kube, namespace: str) -> None:
    """A claim made on an older reading of the session is a conflict."""
    made = await operator_kube.create(SESSIONS, namespace, session())
    await operator_kube.patch_status(SESSIONS, made, {"phase": "Awaiting", "claim": CLAIM})
    with pytest.raises(KubeError) as refusal:
        await operator_kube.patch_status(SESSIONS, made, {"phase": "Awaiting", "claim": {**CLAIM, "token": "u"}})
    assert refusal.value.status == 409


@pytest.mark.parametrize("phase", ["Bounced", "Parked"])
async def test_L9_what_was_returned_stays_so(operator_kube: Kube, namespace: str, phase: str) -> None:
    """A message that was returned or parked keeps phase, reason, message and time."""
    made = await operator_kube.create(MESSAGES, namespace, message())
    end = {"phase": phase, "reason": "Rejected", "message": "m", "completionTime": "2026-01-02T03:04:05Z"}
    made = await operator_kube.patch_status(MESSAGES, made, {"phase": "Pending"})
    made = await operator_kube.patch_status(MESSAGES, made, end)
    other = {"Bounced": "Parked", "Parked": "Bounced"}[phase]
    changes = [{"phase": "Pending"}, {"phase": other}, {"reason": None}, {"message": "n"}, {"completionTime": None}]
    for change in (*changes, None):
        with pytest.raises(Invalid, match=r"can't change once the message is Bounced or Parked|can't be removed"):
            await operator_kube.patch(MESSAGES, namespace, "m", {"status": change}, subresource="status")
    assert await operator_kube.patch_status(MESSAGES, made, end) == made


async def test_statuses_can_not_be_given_at_creation(admin_kube: Kube, namespace: str) -> None:
    """No session begins with a claim, and no message as returned."""
    for collection, body in ((SESSIONS, session()), (MESSAGES, message())):
        made = await admin_kube.create(collection, namespace, {**body, "status": {"phase": "Parked"}})
        assert "status" not in made


async def test_a_deleted_session_takes_mail_and_turns_along(kubes: dict[str, Kube], namespace: str) -> None:
    """What names the session as its owner goes with it, by the garbage collector; what doesn't stays."""
    operator = kubes["operator"]
    made = await operator.create(SESSIONS, namespace, session())
    owned = {"ownerReferences": [_owner(made)]}
    for collection, body in ((MESSAGES, message()), (TURNS, turn())):
        await operator.create(collection, namespace, {**body, "metadata": {**body["metadata"], **owned}})
    await operator.create(MESSAGES, namespace, message("other"))
    await kubes["admin"].delete(SESSIONS, namespace, "s")

    async def gone() -> bool:
        return not [name for collection, name in ((MESSAGES, "m"), (TURNS, "s-1")) if await _there(collection, name)]

    async def _there(collection: Collection, name: str) -> bool:
        try:
            return bool(await kubes["admin"].get(collection, namespace, name))
        except NotFound:
            return False

    await eventually(gone, SECONDS)
    assert await _there(MESSAGES, "other")


def _owner(made: Json) -> Json:
    meta = made["metadata"]
    return {"apiVersion": API_VERSION, "kind": made["kind"], "name": meta["name"], "uid": meta["uid"]}
