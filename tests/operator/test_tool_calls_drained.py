"""Tool calls with the whole operator running: a model delegates, and finishes with what came of it (L14, L15, D8)."""

from belay_api.meta import LABEL_SESSION
from belay_kube.client import DELEGATIONS, PERMISSION_REQUESTS, Collection, Json
from waiting import eventually

from .builders import delegation
from .mail import Mail, heard, said
from .played import PlayedGateway
from .world import World

CHORE = """::call delegate {"agent": "a", "prompt": "help me"}
::then
::say It said: {result}"""


async def boss(mail: Mail, **terms: object) -> None:
    """Agent `boss`, which may delegate to `a`, and its session `s`."""
    await mail.agent("boss", tools=[{"name": "delegate", "agents": ["a"], **terms}])
    await mail.open(agent="boss")


async def child(mail: Mail, collection: Collection = DELEGATIONS) -> Json:
    """What the session's tool call made."""
    query = {} if collection is PERMISSION_REQUESTS else {"labelSelector": f"{LABEL_SESSION}=s"}

    async def found() -> Json | None:
        items = (await mail.kube.list(collection, mail.namespace, **query))["items"]
        return items[0] if items else None

    return await eventually(found)


async def test_L14_D8_a_result_comes_back_to_the_model(world: World, mail: Mail, gateway: PlayedGateway) -> None:
    """A person asks, the model delegates to a socket, the result is the tool's response, and once: two turns, Idle."""
    await world.agent()
    worker = await gateway.attach("a", "w")
    await boss(mail)
    await mail.send(CHORE)
    name = (await child(mail))["metadata"]["name"]
    await world.settled()
    assert (await mail.status())["openToolCalls"][0]["delegation"] == name
    await worker.accept(name)
    await worker.complete(name)
    first, last = await mail.has_turns(2)
    assert [block["name"] for block in first["assistant"]] == ["delegate"]
    assert (heard(last), said(last).strip()) == (["x"], "It said: x")
    assert await mail.waiting() == {}
    assert (await mail.phase("Idle"))["turns"] == 2


async def test_L14_a_killed_worker_is_told_to_the_model(world: World, mail: Mail, gateway: PlayedGateway) -> None:
    """Its work is cancelled after the grace; that is the response, an error."""
    await world.agent()
    worker = await gateway.attach("a", "w")
    await boss(mail)
    await mail.send(CHORE)
    name = (await child(mail))["metadata"]["name"]
    await world.settled()
    await worker.accept(name)
    await worker.drop()
    await world.pass_time(31)
    _, last = await mail.has_turns(2)
    assert last["user"][0]["isError"] is True
    assert heard(last)[0].startswith(f"delegation {name} is Cancelled (AgentOffline): agent a was lost")
    assert "Cancelled" in said(last)


async def test_L15_an_overdue_call(world: World, mail: Mail) -> None:
    """Nobody takes it up; at its timeout the model is told, and the delegation is cancelled."""
    await world.agent()
    await boss(mail, timeoutSeconds=60)
    await mail.send(CHORE)
    name = (await child(mail))["metadata"]["name"]
    await world.settled()
    await world.pass_time(50)
    assert len(await mail.turns()) == 1
    await world.pass_time(12)
    _, last = await mail.has_turns(2)
    assert heard(last) == ["timed out after 60 seconds"]
    assert await world.told(name) == "Cancelled Cancelled"


async def test_a_model_asks_people_first(world: World, mail: Mail, gateway: PlayedGateway) -> None:
    """The round waits for the decision; then the tool runs as any other."""
    await world.agent()
    worker = await gateway.attach("a", "w")
    await boss(mail, permission="Ask")
    await mail.send(CHORE)
    request = (await child(mail, PERMISSION_REQUESTS))["metadata"]["name"]
    await world.settled()
    change = {"spec": {"decision": {"behavior": "Allow", "decidedBy": "belay-admin"}}}
    await world.admin.patch(PERMISSION_REQUESTS, world.namespace, request, change)
    name = (await child(mail))["metadata"]["name"]
    assert name == request
    await world.settled()
    await worker.accept(name)
    await worker.complete(name)
    _, last = await mail.has_turns(2)
    assert heard(last) == ["x"]


async def test_D9_a_cancel_reaches_what_the_model_delegated(world: World, mail: Mail, gateway: PlayedGateway) -> None:
    """Work for a model that waits for a socket: its cancel ends the round, and the socket's work."""
    await world.agent()
    worker = await gateway.attach("a", "w")
    await boss(mail)
    body = delegation("top").to("boss", "s").body()
    body["spec"]["task"]["prompt"] = CHORE
    await world.admin.create(DELEGATIONS, world.namespace, body)
    made = await child(mail)
    assert made["spec"]["parentRef"] == {"kind": "Delegation", "name": "top"}
    name = made["metadata"]["name"]
    await world.settled()
    await worker.accept(name)
    await world.cancel("top")
    await mail.phase("Idle")
    assert await world.told("top") == "Cancelled Cancelled"
    assert await world.told(name) == "Cancelled ParentCancelled"
    assert [turn["outcome"] for turn in await mail.turns()] == ["Answered", "Interrupted"]


async def test_D8_a_model_replies_with_data(world: World, mail: Mail) -> None:
    """`reply` completes what it works on before the conversation ends; the text after it changes nothing."""
    await boss(mail)
    body = delegation("top").to("boss", "s").body()
    body["spec"]["task"]["prompt"] = '::call reply {"data": {"n": 42}}\n::then\n::say done'
    await world.admin.create(DELEGATIONS, world.namespace, body)
    _, last = await mail.has_turns(2)
    assert heard(last) == ["delivered: top is Completed with it"]
    await mail.phase("Idle")
    assert (await world.status("top"))["result"] == {"data": {"n": 42}}


async def test_L14_what_a_model_gets_wrong_comes_back(world: World, mail: Mail) -> None:
    """Calls that make no sense are answered, each, and the round goes on."""
    await boss(mail)
    await mail.send(
        '::call fly {}\n::call delegate {"agent": "a"\n::call delegate {"agent": "m", "prompt": "x"}\n::then\n::say ok'
    )
    _, last = await mail.has_turns(2)
    assert [text.split(":")[0] for text in heard(last)] == [
        "there is no tool fly; your tools are",
        "the arguments of delegate are not a JSON object",
        "the arguments of delegate were refused",
    ]
    assert said(last).strip() == "ok"


async def test_L15_a_response_that_nothing_waits_for_is_parked(world: World, mail: Mail) -> None:
    """And the session goes on."""
    await mail.open()
    tool = Mail(world.operator_kube, mail.namespace)
    name = await tool.send("42", name="nobodys", type="ToolResponse", toolUseId="nobody")
    parked = await eventually(lambda: _status(mail, name))
    assert (parked["phase"], parked["reason"]) == ("Parked", "NotOpen")
    await mail.send("hello")
    (turn,) = await mail.has_turns(1)
    assert heard(turn) == ["hello"]


async def _status(mail: Mail, name: str) -> Json | None:
    return ((await mail.message(name)) or {}).get("status")
