"""The judge of conversations can find fault: each invariant with a story that keeps it and ones that break it."""

from typing import Any

import pytest

from belay_kube.client import Json
from faults.invariants_of_sessions import Story, judged

S = "uid-s"


def meta(name: str, version: int, owner: str | None = None) -> Json:
    """Metadata of an object."""
    owners = {"ownerReferences": [{"uid": owner}]} if owner else {}
    return {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version), **owners}


def session(version: int = 99, **status: Any) -> Json:
    """One version of session `s`, with two turns told unless `status` says otherwise."""
    told = {"phase": "Idle", "turns": 2, "usage": {"calls": 2}, **status}
    return {"metadata": meta("s", version), "spec": {"agentRef": {"name": "a"}}, "status": told}


def mail(name: str, kind: str = "UserMessage", version: int = 1, call: str | None = None, **status: Any) -> Json:
    """One version of a message."""
    spec: Json = {"sessionRef": {"name": "s"}, "type": kind, **({"toolUseId": call} if call else {})}
    return {"metadata": meta(name, version), "spec": spec, "status": status}


def text(said: str = "x") -> Json:
    """Words."""
    return {"type": "Text", "text": said}


def use(call: str) -> Json:
    """A tool call."""
    return {"type": "ToolUse", "toolUseId": call, "name": "work", "input": "{}"}


def result(call: str) -> Json:
    """Its response."""
    return {"type": "ToolResult", "toolUseId": call, "text": "done"}


def turn(
    sequence: int, *consumed: Json, user: list[Json] | None = None, said: list[Json] | None = None, **spec: Any
) -> Json:
    """A turn of session `s`, that read these messages."""
    read = [{"uid": m["metadata"]["uid"], "name": m["metadata"]["name"], "type": m["spec"]["type"]} for m in consumed]
    whole = {"sequence": sequence, "outcome": "Answered", "usage": {"calls": 1}, "consumed": read, **spec}
    whole |= {"user": user or [], "assistant": said or [text()]}
    return {"metadata": meta(f"s-{sequence}", sequence * 10, S), "spec": whole}


ASKED = mail("asked")
DONE = mail("done", "ToolResponse", call="c")
NOTE = mail("note", "Background")
NOTED = [use("mail_1"), result("mail_1")]
CALLED = turn(1, ASKED, NOTE, user=[*NOTED, text()], said=[use("c")])
ENDED = turn(2, DONE, user=[result("c")])


def story(
    *turns: Json, mail: tuple[Json, ...] = (ASKED, DONE, NOTE), here: tuple[str, ...] = (), last: Json | None = None,
    before: tuple[Json, ...] = (), withdrawn: tuple[str, ...] = ()
) -> Story:  # fmt: skip
    """What became of session `s`; of the messages those of `here` are there, besides the session itself."""
    there = {S, *(f"uid-{name}" for name in here)}
    sessions = [[*before, last or session()]]
    return Story(sessions, [[one] for one in mail], [[one] for one in turns], there, withdrawn)


PARKED = mail("asked", phase="Parked", reason="KeepsFailing")
PARKING = turn(1, ASKED, outcome="Parked", usage={}, reason="KeepsFailing")
ONE_TOLD: Json = {"turns": 1, "usage": {"calls": 0}, "lastError": {"reason": "KeepsFailing"}}
OPEN: Json = {"phase": "Executing", "turns": 1, "usage": {"calls": 1}, "openToolCalls": [{"id": "c"}]}
CUT = turn(2, outcome="Interrupted", usage={}, user=[result("c")])
ASIDE = turn(2, DONE, outcome="Parked", usage={}, reason="Rejected")
DONE_ASIDE = mail("done", "ToolResponse", call="c", phase="Parked", reason="Rejected")
STRAY = mail("stray", "ToolResponse", call="c", phase="Parked", reason="NotOpen")


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(story(CALLED, ENDED), id="a round of tools, and background mail"),
        pytest.param(story(CALLED, mail=(ASKED, NOTE), last=session(**OPEN)), id="a call that is open"),
        pytest.param(story(CALLED, here=("done",), last=session(**OPEN)), id="a response that waits"),
        pytest.param(
            story(CALLED, CUT, mail=(ASKED, NOTE), last=session(usage={"calls": 1})), id="a round that was cut short"
        ),
        pytest.param(
            story(CALLED, ASIDE, mail=(ASKED, NOTE, DONE_ASIDE), here=("done",), last=session(usage={"calls": 1})),
            id="responses that were put aside",
        ),
        pytest.param(story(CALLED, ENDED, mail=(ASKED, DONE, NOTE, STRAY), here=("stray",)), id="a stray response"),
        pytest.param(story(PARKING, mail=(PARKED,), here=("asked",), last=session(**ONE_TOLD)), id="parked"),
        pytest.param(story(PARKING, mail=(PARKED,), last=session(**ONE_TOLD)), id="parked and expired"),
        pytest.param(
            story(mail=(ASKED,), here=("asked",), last=session(turns=0, usage={}, lastError={"reason": "Overloaded"})),
            id="waiting, and why",
        ),
        pytest.param(story(CALLED, ENDED, before=(session(21),)), id="told after it was there"),
        pytest.param(story(mail=(ASKED,), withdrawn=("asked",), last=session(turns=0, usage={})), id="withdrawn"),
        pytest.param(Story([[session()]], [[ASKED]], [], ()), id="a session that was deleted"),
        pytest.param(
            Story(
                [[session()], [{**session(turns=0, usage={}), "metadata": meta("s", 99) | {"uid": "t"}}]],
                [[ASKED]],
                [[turn(1, user=[])]],
                {"t"},
            ),
            id="a session that was deleted, and another of that name",
        ),
    ],
)
def test_a_conversation_that_is_whole_passes(kept: Story) -> None:
    """Nothing is found."""
    assert judged(kept) == []


AGAIN = mail("again", "ToolResponse", call="c")


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        pytest.param(story(CALLED, ENDED, turn(3, ASKED, user=[text()]), last=session(turns=3, usage={"calls": 3})),
                     ["I3: asked was settled by turns [1, 3]"], id="read twice"),
        pytest.param(story(CALLED, ENDED, mail=(ASKED, DONE, NOTE, mail("lost"))),
                     ["I3: lost is gone, and in no turn"], id="lost"),
        pytest.param(story(CALLED, ENDED, here=("asked",), last=session(lastError={"reason": "x"})),
                     ["I3: asked was read in turn 1 and is Pending in the mailbox"], id="read and left there"),
        pytest.param(story(CALLED, ENDED, mail=(PARKED, DONE, NOTE)), ["I3: asked was read and Parked"],
                     id="read and returned"),
        pytest.param(story(PARKING, mail=(mail("asked", phase="Parked"),), here=("asked",), last=session(**ONE_TOLD)),
                     ["I3: asked is Parked and doesn't say why"], id="parked without a reason"),
        pytest.param(story(PARKING, mail=(ASKED,), here=("asked",), last=session(**ONE_TOLD)),
                     ["I3: asked is Pending, turn 1 says Parked"], id="a turn that was not carried out"),
        pytest.param(story(mail=(PARKED,), here=("asked",), last=session(turns=0, usage={})),
                     ["I3: asked is Parked, and in no turn"], id="parked without a turn"),
        pytest.param(story(CALLED, {**ENDED, "metadata": meta("s-2", 98, S)}, before=(session(50),)),
                     ["L16: turn 2 was told before it was there (session s)"], id="told too early"),
        pytest.param(story(CALLED, ENDED, last=session(turns=1)),
                     ["L16: 2 turns are there, 1 are told (session s)"], id="a turn that nobody tells of"),
        pytest.param(story(CALLED, {**ENDED, "spec": {**ENDED["spec"], "sequence": 3}}, last=session(turns=2)),
                     ["L16", "L18: turns are numbered [1, 3] (session s)"], id="a gap"),
        pytest.param(story(CALLED, turn(2, DONE, user=[]), last=session()),
                     ["I3: turn 2 read {'ToolResponse': 1} and told {} (session s)",
                      "L14: turn 2 has responses to [], ['c'] were open (session s)"], id="a response left out"),
        pytest.param(story(CALLED, turn(2, DONE, user=[result("c"), result("c")])),
                     ["I3", "L14: turn 2 has responses to ['c', 'c'], ['c'] were open (session s)"],
                     id="a response twice in a round"),
        pytest.param(story(CALLED, ENDED, mail=(ASKED, DONE, NOTE, AGAIN), here=("again",)),
                     ["L14: call c was responded to 2 times (session s)"], id="two responses"),
        pytest.param(story(CALLED, mail=(ASKED, NOTE), last=session(turns=1, usage={"calls": 1})),
                     ["L14: calls ['c'] have no response, and open are [] (session s)"], id="a call that was lost"),
        pytest.param(story(CALLED, ENDED, last=session(openToolCalls=[{"id": "c"}])),
                     ["L14: calls [] have no response, and open are ['c'] (session s)"], id="open though answered"),
        pytest.param(story(CALLED, turn(2, DONE, user=[result("c")], said=[use("c")]),
                           last=session(phase="Executing", openToolCalls=[{"id": "c"}])),
                     ["L14: turn 2 makes a call whose id was there before (session s)"], id="an id twice"),
        pytest.param(story(CALLED, ENDED, last=session(usage={"calls": 3})),
                     ["I3: 2 answers are in its turns, 3 are counted (session s)"], id="counted twice"),
        pytest.param(story(CALLED, ENDED, last=session(phase="Awaiting")), ["I4: it is still Awaiting (session s)"],
                     id="held for ever"),
        pytest.param(story(CALLED, ENDED, last=session(serving=["d"])),
                     ["I4: it is Idle and serves ['d'] (session s)"], id="idle, and somebody waits"),
        pytest.param(story(CALLED, ENDED, mail=(ASKED, DONE, NOTE, mail("left")), here=("left",)),
                     ["I3: left waits, and nothing says why (session s)"], id="waiting without a word"),
        pytest.param(Story([[session()]], [[m] for m in (ASKED, DONE, NOTE)],
                           [[CALLED], [ENDED, {**ENDED, "spec": {**ENDED["spec"], "stopReason": "y"}}]], {S}),
                     ["I2: turn s-2 was changed"], id="a turn that changed"),
    ],
)  # fmt: skip
def test_a_conversation_that_is_broken_is_found(broken: Story, what: list[str]) -> None:
    """Each sentence is found that is expected, given by its beginning, and no other."""
    found, expected = sorted(judged(broken)), sorted(what)
    assert len(found) == len(expected), found
    assert all(map(str.startswith, found, expected)), found
