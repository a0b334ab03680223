"""What `belay chat` reads and writes of a session: the agent's check, the session, messages, the interrupt."""

import uuid

from belay_api.agent import Runtime
from belay_api.agentsession import AgentSession
from belay_api.meta import API_VERSION
from belay_api.pendingmessage import PendingMessage
from belay_client.cluster import is_not_installed
from belay_client.errors import ClientError
from belay_kube.client import AGENTS, MESSAGES, SESSIONS, Collection, Json, Kube, pages
from belay_kube.clock import Clock
from belay_kube.errors import NotFound, Temporary
from belay_kube.finding import find

_RETRY_SECONDS = 1.0


async def model_agent(kube: Kube, namespace: str, name: str) -> Json:
    """The agent. Raises ClientError when there is none or it is no Model, with what to do then."""
    agent = await _existing(kube, AGENTS, namespace, name, "agent", "agents")
    if (runtime := agent["spec"].get("runtime") or Runtime.CHANNEL) != Runtime.MODEL:
        raise ClientError(
            f"agent {namespace}/{name} is of runtime {runtime} and has no mailbox; hand it the task: "
            f"belay delegate {name} MESSAGE --wait -n {namespace}"
        )
    return agent


async def session_of(kube: Kube, namespace: str, name: str, agent: str) -> Json:
    """The session of that name. Raises ClientError when there is none, or it is another agent's."""
    session = await _existing(kube, SESSIONS, namespace, name, "session", "bsess")
    owner = session["spec"]["agentRef"]["name"]
    if owner != agent:
        raise ClientError(f"session {namespace}/{name} is of agent {owner}: belay chat {owner} --session {name}")
    return session


async def _existing(kube: Kube, collection: Collection, namespace: str, name: str, what: str, listed_as: str) -> Json:
    try:
        return await kube.get(collection, namespace, name)
    except NotFound as error:
        if is_not_installed(error):
            raise
        raise ClientError(
            f"{what} {namespace}/{name} does not exist; `kubectl get {listed_as} -n {namespace}` lists them"
        ) from error


async def open_session(kube: Kube, namespace: str, agent: str) -> Json:
    """A new session of the agent. Raises KubeError."""
    body = {
        "apiVersion": API_VERSION,
        "kind": AgentSession.RESOURCE.kind,
        "metadata": {"generateName": f"{agent}-"},
        "spec": {"agentRef": {"name": agent}},
    }
    return await kube.create(SESSIONS, namespace, body)


async def send(kube: Kube, session: Json, text: str) -> Json:
    """Put a message into the mailbox; it goes with its session. Raises KubeError.

    It comes back when the model can't be reached: whoever asked sits there and can ask again.
    """
    meta = session["metadata"]
    owner = {"apiVersion": API_VERSION, "kind": AgentSession.RESOURCE.kind, "name": meta["name"], "uid": meta["uid"]}
    body = {
        "apiVersion": API_VERSION,
        "kind": PendingMessage.RESOURCE.kind,
        "metadata": {"generateName": "chat-", "ownerReferences": [owner]},
        "spec": {"sessionRef": {"name": meta["name"]}, "content": text, "bounceBack": True},
    }
    return await kube.create(MESSAGES, meta["namespace"], body)


async def read(kube: Kube, clock: Clock, collection: Collection, namespace: str, name: str) -> Json | None:
    """The object; None when there is none. What passes by itself is waited out. Raises KubeError."""
    while True:
        try:
            return await find(kube, collection, namespace, name)
        except Temporary as error:
            await clock.sleep(error.delay or _RETRY_SECONDS)


async def mailbox(kube: Kube, session: Json) -> list[Json]:
    """All mail of a session that is there now. Raises KubeError."""
    meta = session["metadata"]
    within = f"spec.sessionRef.name={meta['name']}"
    return [
        message
        async for page in pages(kube, MESSAGES, meta["namespace"], fieldSelector=within)
        for message in page["items"]
    ]


async def take_back(kube: Kube, message: Json) -> None:
    """Delete a message that nobody has read; nothing when it is gone. Raises KubeError."""
    meta = message["metadata"]
    try:
        await kube.delete(MESSAGES, meta["namespace"], meta["name"], {"uid": meta["uid"]})
    except NotFound:
        return


async def interrupt(kube: Kube, session: Json) -> None:
    """Ask for the end of what the session is at (L17). Raises KubeError."""
    meta = session["metadata"]
    change = {"metadata": {"uid": meta["uid"]}, "spec": {"interruptRequest": f"chat-{uuid.uuid4().hex}"}}
    await kube.patch(SESSIONS, meta["namespace"], meta["name"], change)
