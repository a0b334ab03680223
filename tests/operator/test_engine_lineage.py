"""The operator on a real API server: trees of delegations, what is refused there, cancels that cascade (D6, D9)."""

import json
from dataclasses import replace

import pytest

from belay_api.meta import ANNOTATION_CANCEL_CASCADE
from belay_api.names import Ref
from belay_api.times import from_wire
from belay_kube.client import AGENTS, DELEGATIONS, Collection, Json, Kube
from belay_kube.errors import NotFound
from waiting import eventually

from .builders import delegation
from .faulty import Faulty
from .played import PlayedGateway, PlayedSession
from .world import World


async def agents(world: World, gateway: PlayedGateway, *names: str) -> dict[str, PlayedSession]:
    """Agents with one session each and room for plenty."""
    sessions = {}
    for name in names:
        await world.agent(name, maxActiveDelegations=20)
        sessions[name] = await gateway.attach(name, f"s-{name}")
    await world.settled()
    return sessions


async def family(world: World, gateway: PlayedGateway) -> dict[str, PlayedSession]:
    """`top` in progress by agent a, below it `mid` by b, below that `low` by c."""
    sessions = await agents(world, gateway, "a", "b", "c")
    for name, agent, parent in (("top", "a", None), ("mid", "b", "top"), ("low", "c", "mid")):
        given = delegation(name).to(agent)
        await world.create(given.under(parent) if parent else given)
        await world.settled()
        await sessions[agent].accept(name)
    await world.settled()
    return sessions


async def told(world: World, *names: str) -> list[str]:
    """Phase and reason of each."""
    return [await world.told(name) for name in names]


# --- what is refused ---


async def test_D6_an_agent_that_works_above_it_is_refused(world: World, gateway: PlayedGateway) -> None:
    """Self-delegation and a grandparent's agent: Failed at once, never offered, and the sentence says what to do."""
    await family(world, gateway)
    await world.create(delegation("self").to("a").under("top"), delegation("back").to("a").under("low"))
    assert await told(world, "self", "back") == ["Failed AgentAboveInTree"] * 2
    status = await world.status("back")
    assert "dispatchedTime" not in status
    assert "agent a already works above it, on top" in status["message"]


async def test_D6_an_agent_that_allows_reentry_works_below_itself(world: World, gateway: PlayedGateway) -> None:
    """Agent.spec.allowReentry."""
    await family(world, gateway)
    await world.admin.patch(AGENTS, world.namespace, "a", {"spec": {"allowReentry": True}})
    await world.settled()
    await world.create(delegation("back").to("a").under("low"))
    assert await world.told("back") == "Dispatched Dispatched"


async def test_D6_reentry_is_asked_of_an_agent_that_comes_later(world: World, gateway: PlayedGateway) -> None:
    """While there is no such agent nothing is decided; once it comes, it is."""
    await world.create(delegation("top").to("late"), delegation("low").to("late").under("top"))
    assert await told(world, "top", "low") == ["Pending AgentNotFound"] * 2
    await world.agent("late")
    assert await told(world, "top", "low") == ["Queued AgentOffline", "Failed AgentAboveInTree"]


async def test_D6_an_agent_that_comes_with_its_tree_is_asked_all_the_same(world: World, gateway: PlayedGateway) -> None:
    """Agent, `top` and `low` are made at once, and of the agent nothing was heard yet when `low` is taken up."""
    await world.agent("a")
    await world.create(delegation("top").to("a"))
    await world.settled()
    del world.operator.seen.index.agents[Ref(world.namespace, "a")]
    await world.create(delegation("low").to("a").under("top"))
    await eventually(lambda: _is(world, "low", "Failed AgentAboveInTree"))
    assert await told(world, "top", "low") == ["Queued AgentOffline", "Failed AgentAboveInTree"]


async def _is(world: World, name: str, expected: str) -> bool:
    status = await world.status(name)
    return f"{status.get('phase')} {status.get('reason')}" == expected


async def test_D6_an_agent_is_read_live_before_it_refuses_for_good(world: World, gateway: PlayedGateway) -> None:
    """allowReentry was set a moment ago, and word of it has not come: what was seen before refuses nothing."""
    await family(world, gateway)
    await world.admin.patch(AGENTS, world.namespace, "a", {"spec": {"allowReentry": True}})
    await world.settled()
    held, ref = world.operator.seen.index.agents, Ref(world.namespace, "a")
    held[ref] = replace(held[ref], allow_reentry=False, version="1")
    await world.create(delegation("back").to("a").under("low"))
    assert await world.told("back") == "Dispatched Dispatched"


async def test_D6_a_parent_that_a_hundred_wait_for_is_asked_for_a_few_times(
    stopped_world: World, gateway: PlayedGateway, operator_kube: Kube
) -> None:
    """Children first: no read for each of them at each event of their agent; when it comes, all are taken up."""
    world, kube = stopped_world, Faulty(operator_kube)
    reads: list[str] = []

    async def count(path: Collection, name: str) -> None:
        reads.append(name)

    kube.before_get = count
    await world.start(kube)
    await world.agent("b", maxActiveDelegations=100)
    await gateway.attach("b", "s-b")
    await world.settled()
    children = [f"c{number}" for number in range(60)]
    await world.create(*(delegation(name).to("b").under("top") for name in children))
    await world.settled()
    assert {await world.told(name) for name in children[::10]} == {"Pending AgentNotFound"}
    # Each is judged on its own by a live read, since what has no parent any more is cut off for good.
    assert reads.count("top") <= 2 * len(children) + 5
    await world.create(delegation("top").to("nobody"))
    assert set(await told(world, *children)) == {"Dispatched Dispatched"}


async def test_D6_an_ancestor_that_cannot_be_read_ends_nothing(
    stopped_world: World, gateway: PlayedGateway, operator_kube: Kube
) -> None:
    """Its child goes on, and its own deadline still ends it on time."""
    world, kube = stopped_world, Garbling(operator_kube)
    await world.start(kube)
    sessions = await agents(world, gateway, "a", "b")
    await world.create(delegation("top"))
    await world.create(delegation("low").to("b").under("top").due_in(100))
    await world.settled()
    await sessions["b"].accept("low")
    kube.garbled = "top"
    await sessions["a"].complete("top")
    await world.pass_time(60)
    assert await world.told("low") == "InProgress Dispatched"
    assert world.operator.engine.totals()["errors"] == 0
    await world.pass_time(60)
    assert await world.told("low") == "Failed DeadlineExceeded"


class Garbling(Faulty):
    """One delegation makes no sense when it is read by name."""

    garbled = ""

    async def get(self, path: Collection, namespace: str | None, name: str) -> Json:
        """Read, and spoil."""
        obj = await super().get(path, namespace, name)
        if path == DELEGATIONS and name == self.garbled:
            obj["status"]["phase"] = "Gibberish"
        return obj


async def test_D6_a_circle_is_refused(world: World, gateway: PlayedGateway) -> None:
    """Two that name each other: neither is offered."""
    await agents(world, gateway, "a", "b")
    await world.create(delegation("x").to("a").under("y"))
    assert await world.told("x") == "Pending AgentNotFound"
    await world.create(delegation("y").to("b").under("x"))
    ends = await told(world, "x", "y")
    assert "Failed LineageCycle" in ends
    assert set(ends) <= {"Failed LineageCycle", "Cancelled ParentFailed"}
    assert not [name for name in ("x", "y") if "dispatchedTime" in await world.status(name)]


async def test_D6_the_seventeenth_of_a_line_is_refused(world: World, gateway: PlayedGateway) -> None:
    """Sixteen agents below each other work; one more does not."""
    names = [f"a{number}" for number in range(17)]
    await agents(world, gateway, *names)
    for number, name in enumerate(names):
        given = delegation(f"d{number}").to(name)
        await world.create(given.under(f"d{number - 1}") if number else given)
    ends = await told(world, *(f"d{number}" for number in range(17)))
    assert ends == ["Dispatched Dispatched"] * 16 + ["Failed LineageTooDeep"]


async def test_D6_a_missing_parent_is_waited_for(world: World, gateway: PlayedGateway) -> None:
    """Pending (AgentNotFound) and the parent's name, until it comes; then the agent's absence is what is told."""
    await agents(world, gateway, "a", "b")
    await world.create(delegation("low").to("b").under("top"), delegation("lost").to("nobody").under("top"))
    assert await told(world, "low", "lost") == ["Pending AgentNotFound"] * 2
    assert "Delegation top does not exist" in (await world.status("low"))["message"]
    await world.create(delegation("top"))
    assert await told(world, "top", "low") == ["Dispatched Dispatched"] * 2
    assert await world.told("lost") == "Pending AgentNotFound"
    assert "agent nobody does not exist" in (await world.status("lost"))["message"]


async def test_D6_a_parent_that_comes_while_it_is_asked_for_is_not_missed(
    stopped_world: World, gateway: PlayedGateway, operator_kube: Kube
) -> None:
    """The watch tells of it before the answer that it isn't there: the child is taken up, with no time passing."""
    world, kube = stopped_world, Faulty(operator_kube)
    await world.start(kube)
    await agents(world, gateway, "a", "b")

    async def is_seen() -> bool:
        return Ref(world.namespace, "top") in world.operator.seen.index.work

    async def come(path: Collection, name: str) -> None:
        if name == "top" and not await is_seen():
            await world.create(delegation("top"))
            await eventually(is_seen)
            raise NotFound("top: wasn't there when it was asked for", 404)

    kube.before_get = come
    await world.create(delegation("low").to("b").under("top"))
    assert await told(world, "top", "low") == ["Dispatched Dispatched"] * 2


async def test_D6_a_session_as_parent_is_waited_for(world: World, gateway: PlayedGateway) -> None:
    """An AgentSession that isn't there, like any parent."""
    await agents(world, gateway, "a")
    await world.create(delegation("d").under("chat", "AgentSession"))
    assert await world.told("d") == "Pending AgentNotFound"
    assert "AgentSession chat does not exist" in (await world.status("d"))["message"]


async def test_a_childs_deadline_is_no_later_than_its_parents(world: World, gateway: PlayedGateway) -> None:
    """Written into its status when it is taken up, and kept."""
    await agents(world, gateway, "a", "b")
    await world.create(delegation("top").due_in(100))
    await world.create(delegation("longer").to("b").under("top").due_in(900))
    await world.create(delegation("shorter").to("b").under("top").due_in(50))
    await world.settled()
    top, longer, shorter = [(await world.status(name))["deadline"] for name in ("top", "longer", "shorter")]
    assert shorter < longer == top
    await world.pass_time(140)
    ends = await told(world, "top", "longer", "shorter")
    assert ends[0] == "Failed DeadlineExceeded"
    assert ends[1] in ("Failed DeadlineExceeded", "Cancelled ParentFailed")


# --- the cascade ---


async def test_D9_a_cancel_reaches_every_descendant(world: World, gateway: PlayedGateway) -> None:
    """Running, offered, queued and pending: parents first to last, each with the conditions of a cancel."""
    await family(world, gateway)
    await world.agent("d")
    await world.create(
        delegation("offered").to("c").under("mid"),
        delegation("queued").to("d").under("low"),
        delegation("pending").to("nobody").under("low"),
        delegation("alone").to("c"),
    )
    await world.settled()
    await world.cancel("top")
    below = ("mid", "low", "offered", "queued", "pending")
    assert await told(world, "top", *below) == ["Cancelled Cancelled", *(["Cancelled ParentCancelled"] * 5)]
    for name in below:
        held = {c["type"] for c in (await world.status(name))["conditions"] if c["status"] == "True"}
        assert held == {"Finished", "CancelRequested"}
    ended = [from_wire((await world.status(name))["completionTime"]) for name in ("top", "mid", "low")]
    assert ended == sorted(ended, key=str)
    assert await world.told("alone") == "Dispatched Dispatched"


async def test_D9_a_cancel_may_spare_the_children(world: World, gateway: PlayedGateway) -> None:
    """With the annotation only the one is cancelled; a child's own cancel goes on cascading."""
    await family(world, gateway)
    patch = {
        "metadata": {"annotations": {ANNOTATION_CANCEL_CASCADE: "false"}},
        "spec": {"desiredState": "Cancelled"},
    }
    await world.admin.patch(DELEGATIONS, world.namespace, "top", patch)
    await world.pass_time(600, 30)
    assert await told(world, "top", "mid", "low") == [
        "Cancelled Cancelled",
        "InProgress Dispatched",
        "InProgress Dispatched",
    ]
    await world.cancel("mid")
    assert await told(world, "mid", "low") == ["Cancelled Cancelled", "Cancelled ParentCancelled"]


async def test_D9_a_deleted_parent_cancels_its_children(world: World, gateway: PlayedGateway) -> None:
    """`kubectl delete` is a cancel without proof: what was taken up below it ends, whatever it was doing."""
    await family(world, gateway)
    await world.admin.delete(DELEGATIONS, world.namespace, "top")
    assert await told(world, "mid", "low") == ["Cancelled ParentDeleted", "Cancelled ParentCancelled"]


@pytest.mark.parametrize("how", ["cancelled", "deleted"])
async def test_D9_a_parent_that_ended_while_the_operator_was_down(
    world: World, gateway: PlayedGateway, how: str
) -> None:
    """Found at the start by a live read; a parent that is only done leaves its child alone."""
    sessions = await family(world, gateway)
    await world.create(delegation("done"))
    await world.create(delegation("child").to("b").under("done"))
    await world.settled()
    await world.stop()
    await sessions["a"].complete("done")
    if how == "deleted":
        await world.admin.delete(DELEGATIONS, world.namespace, "top")
    else:
        await _end(world, "top")
    await world.start()
    first = "ParentDeleted" if how == "deleted" else "ParentCancelled"
    assert await told(world, "mid", "low") == [f"Cancelled {first}", "Cancelled ParentCancelled"]
    assert await world.told("child") == "Dispatched Dispatched"


async def _end(world: World, name: str) -> None:
    """Cancel it as an operator would, just before it died."""
    obj = await world.admin.get(DELEGATIONS, world.namespace, name)
    await world.operator_kube.patch_status(DELEGATIONS, obj, {"phase": "Cancelled", "reason": "Cancelled"})


async def test_D9_a_completed_parent_leaves_its_children_and_still_passes_a_cancel_on(
    world: World, gateway: PlayedGateway
) -> None:
    """`mid` is done, `low` goes on; when `top` is cancelled, `low` is a descendant all the same."""
    sessions = await family(world, gateway)
    await sessions["b"].complete("mid")
    assert await told(world, "mid", "low") == ["Completed Completed", "InProgress Dispatched"]
    await world.cancel("top")
    assert await told(world, "top", "low") == ["Cancelled Cancelled", "Cancelled ParentCancelled"]


async def test_D9_a_failed_parent_cancels_its_children(world: World, gateway: PlayedGateway) -> None:
    """Nobody is left to use what they would find out."""
    sessions = await family(world, gateway)
    await sessions["a"].write("top", phase="Failed", reason="AgentFailed", message="no idea")
    assert await told(world, "mid", "low") == ["Cancelled ParentFailed", "Cancelled ParentCancelled"]


async def test_D9_a_lost_agents_work_takes_its_children_along(world: World, gateway: PlayedGateway) -> None:
    """Orphaned and Cancelled after the grace is an end like any other."""
    sessions = await family(world, gateway)
    await sessions["a"].drop()
    await world.pass_time(45)
    assert await told(world, "top", "mid") == ["Cancelled AgentOffline", "Cancelled ParentCancelled"]


async def test_D9_handed_back_work_that_is_cut_off_is_held_by_nobody(world: World, gateway: PlayedGateway) -> None:
    """Its holder gave it up before its parent ended: nobody has to be told, and to answer."""
    sessions = await family(world, gateway)
    await world.stop()
    await sessions["b"].write("mid", reason="AgentForgot", message="never heard of it")
    await world.admin.patch(DELEGATIONS, world.namespace, "mid", {"metadata": {"annotations": {"a": "b"}}})
    await _end(world, "top")
    await world.start()
    assert await world.told("mid") in ("Cancelled ParentCancelled", "Cancelled AgentForgot")
    assert "sessionId" not in await world.status("mid")


async def test_D9_no_owner_references_tie_a_tree(world: World, gateway: PlayedGateway) -> None:
    """The cascade is ours: the garbage collector would delete running children without telling anyone."""
    await family(world, gateway)
    items = (await world.admin.list(DELEGATIONS, world.namespace))["items"]
    assert "ownerReferences" not in json.dumps(items)
