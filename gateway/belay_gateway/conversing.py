"""Conversations with Model agents in another's name: sessions that are opened, and mail that is sent to them.

The admission policy lets the gateway name any sender, so it names the one who asks, always. Mail is deleted once it
was read (DESIGN.md section 5): the message of an idempotency key is looked for in the mailbox and in the latest turns.
"""

from dataclasses import dataclass

from belay_api.agentsession import AgentSession
from belay_api.messages import ErrorCode
from belay_api.meta import API_VERSION
from belay_api.names import short_hash, turn_name
from belay_api.pendingmessage import PendingMessage
from belay_gateway.auth import User
from belay_gateway.refused import Refused
from belay_gateway.sessionevents import turns_of
from belay_gateway.wanted import Wanted, perhaps_made
from belay_kube.client import MESSAGES, SESSIONS, TURNS, Json, Kube
from belay_kube.errors import AlreadyExists, NotFound, Unreachable
from belay_kube.once import KeyReused

LATEST_TURNS = 10
"""That are looked through for a message that was read already."""
_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class Opening(Wanted):
    """A session that is to be opened."""

    agent: str


@dataclass(frozen=True)
class Letter:
    """A message for a session."""

    namespace: str
    session: str
    content: str
    bounce_back: bool = False
    key: str | None = None


@dataclass(frozen=True)
class Sent:
    """A message that was sent: its name and its uid, and the turn that read it, once there is one."""

    name: str
    uid: str
    is_new: bool = False
    turn: int | None = None


@dataclass(frozen=True)
class Conversing:
    """Opens sessions and sends mail for others, whose rights were checked before."""

    kube: Kube

    async def open(self, caller: User, opening: Opening) -> tuple[Json, bool]:
        """The session, and whether it was made just now. Raises Refused, KeyReused, KubeError."""
        opening.check_named_once()
        body = session_body(opening, caller)
        try:
            return await self.kube.create(SESSIONS, opening.namespace, body), True
        except AlreadyExists:
            if opening.key is None:
                raise
        except Unreachable as error:
            raise perhaps_made(error, opening.key, opening.name) from error
        found = await self.kube.get(SESSIONS, opening.namespace, body["metadata"]["name"])
        if found["spec"]["agentRef"] != body["spec"]["agentRef"]:
            raise KeyReused(found["metadata"]["name"])
        return found, False

    async def send(self, sender: User, letter: Letter) -> Sent:
        """Put a message into the mailbox: with a key, once. Raises Refused, KeyReused, KubeError (NotFound: there is no
        such session)."""
        session = await self.kube.get(SESSIONS, letter.namespace, letter.session)
        body = message_body(session, sender, letter)
        for _ in range(_TRIES):
            sent = await self._sent_before(session, body) if letter.key else None
            if sent:
                return sent
            try:
                made = await self.kube.create(MESSAGES, letter.namespace, body)
            except AlreadyExists:
                continue
            except Unreachable as error:
                raise perhaps_made(error, letter.key) from error
            return Sent(made["metadata"]["name"], made["metadata"]["uid"], is_new=True)
        raise Refused(ErrorCode.UNAVAILABLE, "the message of this idempotency key comes and goes: try again")

    async def _sent_before(self, session: Json, body: Json) -> Sent | None:
        """The message that stands under this name in the mailbox, or that a turn has read. The turn is there before the
        message is gone, so the mailbox comes first."""
        namespace, name = session["metadata"]["namespace"], body["metadata"]["name"]
        try:
            found = await self.kube.get(MESSAGES, namespace, name)
        except NotFound:
            return await self._read_before(session, body)
        if found["spec"] != {**found["spec"], **body["spec"]}:
            raise KeyReused(name)
        return Sent(name, found["metadata"]["uid"])

    async def _read_before(self, session: Json, body: Json) -> Sent | None:
        """A session counts a turn only when all that it read is gone: the one after the last may be there, too."""
        meta = session["metadata"]
        last = turns_of(session) + 1
        for sequence in range(last, max(0, last - LATEST_TURNS), -1):
            try:
                turn = await self.kube.get(TURNS, meta["namespace"], turn_name(meta["name"], sequence))
            except NotFound:
                continue
            for consumed in turn["spec"].get("consumed") or ():
                if consumed["name"] == body["metadata"]["name"]:
                    if consumed.get("source") != body["spec"]["source"]:
                        raise KeyReused(consumed["name"])
                    return Sent(consumed["name"], consumed["uid"], turn=sequence)
        return None


def session_body(opening: Opening, caller: User) -> Json:
    """The AgentSession to create: a key makes its name, so that there is one. Pure."""
    if opening.key:
        named = {"name": f"keyed-{short_hash(opening.namespace, caller.name, opening.key)}"}
    elif opening.name:
        named = {"name": opening.name}
    else:
        named = {"generateName": f"{opening.agent}-"}
    return {
        "apiVersion": API_VERSION,
        "kind": AgentSession.RESOURCE.kind,
        "metadata": {**named, "labels": opening.labels or {}},
        "spec": {"agentRef": {"name": opening.agent}},
    }


def message_body(session: Json, sender: User, letter: Letter) -> Json:
    """The PendingMessage to create, which goes with its session. Pure."""
    meta = session["metadata"]
    if letter.key:
        named = {"name": f"keyed-{short_hash(meta['uid'], sender.name, letter.key)}"}
    else:
        named = {"generateName": f"{meta['name']}-"}
    owner = {
        "apiVersion": API_VERSION,
        "kind": AgentSession.RESOURCE.kind,
        "name": meta["name"],
        "uid": meta["uid"],
    }
    return {
        "apiVersion": API_VERSION,
        "kind": PendingMessage.RESOURCE.kind,
        "metadata": {**named, "ownerReferences": [owner]},
        "spec": {
            "sessionRef": {"name": meta["name"]},
            "source": {"kind": "User", "name": sender.name},
            "content": letter.content,
            "bounceBack": letter.bounce_back,
        },
    }
