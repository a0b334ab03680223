"""One run: two gateways, an operator, three sessions of two agents, people and a clock on one store; any may crash."""

import itertools
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

from belay_api.actions import Accept, Cancelled, Complete, Fail, Heartbeat, OnAttempt, ProgressMade, Release
from belay_api.meta import API_VERSION
from belay_api.names import Ref
from belay_api.reasons import SubscriptionReason
from belay_api.transitions import Writer
from belay_kube.client import AGENTS, DELEGATIONS, SUBSCRIPTIONS, Collection, Json
from belay_kube.clock import FakeClock
from belay_operator.observe.presence_records import GatewayLease

from .connection import Connection, Crash, Step
from .gateways import GatewayActor, Socket
from .history import History, ignored, left_over, orphans
from .operators import OperatorActor, Sight
from .store import Store

GATEWAYS = 2
Who = tuple[str, str]
"""An agent and its session."""
SESSIONS: tuple[Who, ...] = (("a", "s"), ("a", "t"), ("b", "u"))
RENEWAL = 15.0
"""Seconds between two renewals of a gateway."""
LONGEST_DEADLINE = 200
_LONG = 40.0
_GRACES = 8
"""Renewals after which everything that can be lost is: it went stale, and its grace is over."""


class Word(StrEnum):
    """What an agent says of an attempt."""

    ACCEPT = "accept"
    BEAT = "beat"
    PROGRESS = "progress"
    COMPLETE = "complete"
    FAIL = "fail"
    RELEASE = "release"
    CANCELLED = "cancelled"


class Wish(StrEnum):
    """What a person wants."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"
    SUSPEND = "suspend"
    GO_ON = "go on"


class Coming(StrEnum):
    """What a session does beside working; that its socket ends is a SubscriptionReason."""

    ATTACH = "attach"
    RESUME = "resume"
    RESTART = "restart"
    """It resumes, and knows nothing of what it held."""
    VANISH = "vanish"
    """Its socket ends, and its gateway doesn't come to say so at once."""


class World:
    """What may happen is one method each; `end` judges."""

    def __init__(self, store: Store, clock: FakeClock, namespace: str) -> None:
        self.history = History()
        self.clock = clock
        self._store = store
        self._namespace = namespace
        self._people = Connection(store, None, self.history)
        self._numbers = itertools.count(1)
        self._leases: dict[str, GatewayLease] = {}
        self._sockets: dict[Who, tuple[GatewayActor, Socket]] = {}
        self._gateways: list[GatewayActor] = []
        self._operator = self._new_operator()

    async def begin(self) -> None:
        """Two agents, two gateways, everybody attached, and an operator that has seen it."""
        await self._agent("a", maxActiveDelegations=2)
        await self._agent("b", onAgentLost="Requeue")
        self._gateways = [self._new_gateway() for _ in range(GATEWAYS)]
        for place, (agent, session) in enumerate(SESSIONS):
            await self._attach(place, (agent, session))
        await self._renew()
        await self._operator.start(self._leases.values())
        await self.pass_time(1)
        await self.operator_works()

    async def _agent(self, name: str, **spec: Any) -> None:
        body = {"apiVersion": API_VERSION, "kind": "Agent", "metadata": {"name": name}, "spec": spec}
        await self._people.create(AGENTS, self._namespace, body)

    def _new_operator(self) -> OperatorActor:
        return OperatorActor(Connection(self._store, Writer.OPERATOR, self.history), self.clock, self._namespace)

    def _new_gateway(self) -> GatewayActor:
        connection = Connection(self._store, Writer.GATEWAY, self.history)
        identity = f"gateway-{next(self._numbers)}"
        return GatewayActor(
            identity, connection, self.clock, self._namespace, self.history, lambda: f"token-{next(self._numbers)}"
        )

    # --- people ------------------------------------------------------------------------------------------------

    async def create(self, agent: str, session: str | None, parent: int | None, **spec: Any) -> None:
        """A person, or an agent, asks for work; its parent may be gone, or not there yet."""
        number = next(self._numbers)
        asked: Json = {"agentRef": {"name": agent}, "task": {"prompt": "do it"}, **spec}
        if session:
            asked["sessionId"] = session
        names = [obj["metadata"]["name"] for obj in await self._all(DELEGATIONS)]
        if parent is not None and names:
            asked["parentRef"] = {"kind": "Delegation", "name": names[parent % len(names)]}
        body = {"apiVersion": API_VERSION, "kind": "Delegation", "metadata": {"name": f"d{number:05}"}, "spec": asked}
        await self._people.create(DELEGATIONS, self._namespace, body)

    async def wish(self, what: Wish, pick: int) -> None:
        """A person changes the specification of a delegation or an agent, or deletes it."""
        match what:
            case Wish.CANCEL:
                await self._ask(pick, lambda _: {"desiredState": "Cancelled"})
            case Wish.RETRY:
                await self._ask(pick, lambda spec: {"retryAttempt": (spec.get("retryAttempt") or 0) + 1})
            case Wish.DELETE:
                await self._delete(pick)
            case Wish.SUSPEND | Wish.GO_ON:
                agent = SESSIONS[pick % len(SESSIONS)][0]
                await self._people.patch(AGENTS, self._namespace, agent, {"spec": {"suspend": what is Wish.SUSPEND}})

    async def _ask(self, pick: int, of: Callable[[Json], Json]) -> None:
        there = await self._all(DELEGATIONS)
        if there:
            obj = there[pick % len(there)]
            name = obj["metadata"]["name"]
            await self._people.patch(DELEGATIONS, self._namespace, name, {"spec": of(obj["spec"])})

    async def _delete(self, pick: int) -> None:
        there = await self._all(DELEGATIONS)
        if there:
            await self._people.delete(DELEGATIONS, self._namespace, there[pick % len(there)]["metadata"]["name"])

    # --- sessions ----------------------------------------------------------------------------------------------

    async def come_and_go(self, who: Who, place: int, what: SubscriptionReason | Coming) -> None:
        """A session comes, comes back, or goes."""
        match what:
            case Coming.ATTACH:
                await self._attach(place, who)
            case Coming.RESUME | Coming.RESTART:
                await self._resume(who, wholly=what is Coming.RESTART)
            case Coming.VANISH:
                await self._detach(who, SubscriptionReason.CONNECTION_LOST, says_so=False)
            case SubscriptionReason():
                await self._detach(who, what, says_so=True)

    async def return_if_lost(self, who: Who) -> None:
        """An agent without a socket attaches again."""
        gateway, socket = self._sockets[who]
        if gateway.sockets.get((socket.agent, socket.session)) is not socket:
            await self._attach(SESSIONS.index(who), who)

    async def _attach(self, place: int, who: Who) -> None:
        """Anew or once more; an agent remembers what it was at."""
        gateway = self._gateways[place % len(self._gateways)]
        before = self._sockets.get(who)
        try:
            socket = await gateway.attach(Ref(self._namespace, who[0]), who[1])
        except Crash:
            return
        if before:
            socket.attempts = {**before[1].attempts, **socket.attempts}
            socket.heard = {**before[1].heard, **socket.heard}
            socket.holds = set(before[1].holds)
        self._sockets[who] = gateway, socket

    async def _resume(self, who: Who, *, wholly: bool) -> None:
        gateway, socket = self._sockets[who]
        if wholly:
            socket.holds.clear()
        if gateway.sockets.get((socket.agent, socket.session)) is socket:
            await self._surviving(gateway.resume(socket))

    async def _detach(self, who: Who, why: SubscriptionReason, *, says_so: bool) -> None:
        gateway, socket = self._sockets[who]
        await self._surviving(gateway.detach(socket, why, says_so=says_so))

    async def say(self, who: Who, word: Word, pick: int, *, late: bool) -> None:
        """A session speaks of an attempt that it has in hand, or late, of any that it ever heard of."""
        socket = self._sockets[who][1]
        known = sorted((socket.heard if late else socket.attempts).items(), reverse=True)
        if known:
            name, attempt = known[pick % len(known)]
            await self._act(who, word, name, max(1, attempt - late))

    async def speak_of_the_attempt_before(self, who: Who, word: Word, pick: int, *, again: bool) -> None:
        """A session releases work, it is offered again, and the session speaks of the attempt that is over; it may
        have taken the new one before (`again`)."""
        socket = self._sockets[who][1]
        known = sorted(socket.attempts.items(), reverse=True)
        if not known:
            return
        name, attempt = known[pick % len(known)]
        for giving_up in (Word.ACCEPT, Word.RELEASE):
            await self._act(who, giving_up, name, attempt)
        await self.pass_time(RENEWAL, watched=True)
        now = self._sockets[who][1].attempts.get(name, attempt)
        if again and now > attempt:
            await self._act(who, Word.ACCEPT, name, now)
        await self._act(who, word, name, attempt)

    async def _act(self, who: Who, word: Word, name: str, attempt: int) -> None:
        gateway, socket = self._sockets[who]
        await gateway.act(socket, self._action(word, name, attempt, who[1]))

    def _action(self, word: Word, name: str, attempt: int, session: str) -> OnAttempt:
        match word:
            case Word.ACCEPT:
                return Accept(name=name, attempt=attempt)
            case Word.BEAT:
                return Heartbeat(name=name, attempt=attempt)
            case Word.PROGRESS:
                progress = {"percent": next(self._numbers) % 100}
                return ProgressMade.model_validate({"name": name, "attempt": attempt, "progress": progress})
            case Word.COMPLETE:
                result = {"text": f"{session} {next(self._numbers)}"}
                return Complete.model_validate({"name": name, "attempt": attempt, "result": result})
            case Word.FAIL:
                return Fail(name=name, attempt=attempt, message=f"{session} could not")
            case Word.RELEASE:
                return Release(name=name, attempt=attempt)
            case Word.CANCELLED:
                return Cancelled(name=name, attempt=attempt)

    # --- processes ---------------------------------------------------------------------------------------------

    async def gateway_looks(self, place: int) -> None:
        """The watches of a gateway catch up."""
        await self._surviving(self._gateways[place].look())

    async def gateway_crashes(self, place: int) -> None:
        """SIGKILL, and another process in its place."""
        gateway = self._gateways[place]
        gateway.connection.kill()
        gateway.sockets.clear()
        self._gateways[place] = self._new_gateway()

    def interrupt_gateway(self, place: int, after: int, step: Step) -> None:
        """`step` happens between two of the gateway's next requests."""
        self._gateways[place].connection.interrupt(after, step)

    async def operator_sees(self, sight: Sight) -> None:
        """One of the operator's watches catches up."""
        await self._surviving(self._operator.see(sight, self._leases.values()))

    async def operator_works(self, after: int = 0, step: Step | None = None) -> None:
        """The operator acts on what it has seen; `step` happens between two of its requests."""
        self._operator.connection.interrupt(after, step)
        await self._surviving(self._operator.work())
        self._operator.connection.interrupt(0, None)

    async def operator_crashes(self) -> None:
        """SIGKILL, and another one that sees everything anew."""
        self._operator.connection.kill()
        self._operator = self._new_operator()
        await self._operator.start(self._leases.values())

    async def catch_up(self) -> None:
        """Every watch is up to date, and everybody acts on it."""
        for sight in Sight:
            await self.operator_sees(sight)
        await self.operator_works()
        for place in range(len(self._gateways)):
            await self.gateway_looks(place)

    async def _surviving(self, step: Awaitable[None]) -> None:
        try:
            await step
        except Crash:
            return

    async def pass_time(self, seconds: float, step: float = RENEWAL, *, watched: bool = False) -> None:
        """Time passes; gateways renew in time, and the operator sees that they do, or everybody sees everything."""
        while seconds > 0:
            await self.clock.advance(min(step, seconds))
            seconds -= step
            await self._renew()
            if watched:
                await self.catch_up()

    async def _renew(self) -> None:
        for gateway in tuple(self._gateways):
            await self._surviving(self._renewed(gateway))
        await self.operator_sees(Sight.LEASES)

    async def _renewed(self, gateway: GatewayActor) -> None:
        self._leases[gateway.identity] = await gateway.renew()

    # --- the end -----------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """Let everything come to rest, and judge it. Raises AssertionError."""
        for gateway in self._gateways:
            gateway.connection.interrupt(0, None)
        for _ in range(_GRACES):
            await self._round(RENEWAL)
        self._say(ignored(await self._all(DELEGATIONS)))
        self._say(orphans(await self._all(DELEGATIONS), await self._all(SUBSCRIPTIONS)))
        await self._nothing_is_missed()
        for _ in range(int(2 * LONGEST_DEADLINE / _LONG) + 1):
            await self._round(_LONG)
        self._say(self.history.ended(await self._all(DELEGATIONS)))
        self._say(left_over(await self._all(SUBSCRIPTIONS)))
        await self._nothing_is_missed()

    async def _round(self, seconds: float) -> None:
        await self.pass_time(seconds, _LONG, watched=True)

    async def _nothing_is_missed(self) -> None:
        """S10: an operator that sees everything anew finds nothing to write that the one before has not."""
        before = len(self.history.writes)
        await self.operator_crashes()
        await self.operator_works()
        wrote = self.history.writes[before:]
        more = [obj for who, _, obj in wrote if who is Writer.OPERATOR]
        self._say([f"S10: a new operator changes {obj['metadata']['name']} to {obj['status']}" for obj in more])

    def _say(self, sentences: list[str]) -> None:
        assert not sentences, "\n".join(sentences)

    async def _all(self, path: Collection) -> list[Json]:
        items: list[Json] = (await self._people.list(path, self._namespace))["items"]
        return sorted(items, key=lambda obj: str(obj["metadata"]["name"]))
