"""What must be so of Model agents' sessions after each run, whatever went wrong in it (RELIABILITY.md, I2 to I4; L14,
L16): every version of every session, message and turn is recorded while the run goes on, and judged at its end.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from belay_kube.client import MESSAGES, SESSIONS, TURNS, Json, Kube
from faults.invariants import History, recorded

_READ = frozenset({"Answered", "Interrupted"})
_RETURNED = frozenset({"Bounced", "Parked"})
_ACTIVE = frozenset({"UserMessage", "Subagent"})
_HELD_BACK = ("Blocked", "AuthenticationRequired")
_STRAY = "NotOpen"
Run = list[Json]
"""Every version of one object, in order."""


@dataclass(frozen=True)
class Story:
    """What became of a namespace's conversations; `there`: uids of the sessions and messages that are there at the end,
    `withdrawn`: names of messages that people deleted unread."""

    sessions: list[Run]
    mail: list[Run]
    turns: list[Run]
    there: Collection[str] = ()
    withdrawn: Collection[str] = ()


class Histories:
    """Of sessions, mail and turns."""

    def __init__(self, sessions: History, mail: History, turns: History) -> None:
        self._kept = {SESSIONS: sessions, MESSAGES: mail, TURNS: turns}

    async def broken(self, kube: Kube, namespace: str, withdrawn: Collection[str] = ()) -> list[str]:
        """What is not as it must be, in sentences. Raises KubeError."""
        there: set[str] = set()
        for collection, history in self._kept.items():
            listed = (await kube.list(collection, namespace))["items"]
            if not history.caught_up(listed):
                return [f"the recording of {collection.plural} is behind"]
            there |= {obj["metadata"]["uid"] for obj in listed}
        sessions, mail, turns = (list(history.versions.values()) for history in self._kept.values())
        return judged(Story(sessions, mail, turns, there, withdrawn))


@asynccontextmanager
async def recorded_sessions(kube: Kube, namespace: str) -> AsyncIterator[Histories]:
    """Record from here on what becomes of the namespace's conversations."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(recorded(kube, namespace, c)) for c in (SESSIONS, MESSAGES, TURNS)]
        yield Histories(*made)


def judged(story: Story) -> list[str]:
    """What is wrong, in sentences. Pure."""
    found = [*_mail(story), *(sentence for run in story.turns for sentence in _unchanged(run))]
    for run in story.sessions:
        if _uid(run) in story.there:
            found += _Conversation(run, story).judged()
    return found


# --- mail ---


def _mail(story: Story) -> Iterator[str]:
    """I3: each message is in exactly one turn that settles it, or waits, or was returned and says why; or it went with
    its session, also where another was opened under that name."""
    settled: defaultdict[str, list[Json]] = defaultdict(list)
    for turn in story.turns:
        for message in _spec(turn).get("consumed") or ():
            settled[message["uid"]].append(_spec(turn))
    gone = {_name(run) for run in story.sessions if _uid(run) not in story.there}
    conversing = {_name(run) for run in story.sessions} - gone
    for run in story.mail:
        turns = settled[_uid(run)]
        if len(turns) > 1:
            yield f"I3: {_name(run)} was settled by turns {sorted(turn['sequence'] for turn in turns)}"
        elif _spec(run)["sessionRef"]["name"] in conversing and _name(run) not in story.withdrawn:
            yield from _fate(run, turns[0] if turns else None, here=_uid(run) in story.there)


def _fate(run: Run, turn: Json | None, *, here: bool) -> Iterator[str]:
    status = run[-1].get("status") or {}
    phase, reason, name = status.get("phase") or "Pending", status.get("reason"), _name(run)
    outcome = turn["outcome"] if turn else None
    if phase in _RETURNED and not reason:
        yield f"I3: {name} is {phase} and doesn't say why"
    if outcome in _READ and here:
        yield f"I3: {name} was read in turn {turn and turn['sequence']} and is {phase} in the mailbox"
    elif outcome in _READ and phase in _RETURNED:
        yield f"I3: {name} was read and {phase}"
    elif outcome in _RETURNED and here and phase != outcome:
        yield f"I3: {name} is {phase}, turn {turn and turn['sequence']} says {outcome}"
    elif outcome is None and not here:
        yield f"I3: {name} is gone, and in no turn"
    elif outcome is None and phase in _RETURNED and reason != _STRAY:
        yield f"I3: {name} is {phase}, and in no turn"


def _unchanged(run: Run) -> list[str]:
    """I2: a turn is what happened."""
    return [f"I2: turn {_name(run)} was changed"] if any(obj["spec"] != run[0]["spec"] for obj in run) else []


# --- one conversation ---


class _Conversation:
    """A session that is there, its turns in order, and its mail."""

    def __init__(self, run: Run, story: Story) -> None:
        self._run = run
        self._name = _name(run)
        self._status: Json = run[-1].get("status") or {}
        mine = [turn for turn in story.turns if _is_of(turn, run)]
        self._turn_runs = sorted(mine, key=lambda turn: int(_spec(turn)["sequence"]))
        self._turns = [_spec(turn) for turn in self._turn_runs]
        self._mail = [m for m in story.mail if _spec(m)["sessionRef"]["name"] == self._name]
        self._there = story.there

    def judged(self) -> Iterator[str]:
        """What is wrong with it, in sentences."""
        checks = (self._numbered, self._told, self._rounds, self._pairs, self._responses, self._spent, self._rests)
        for check in checks:
            yield from (f"{sentence} (session {self._name})" for sentence in check())

    def _numbered(self) -> Iterator[str]:
        """L18: turns are numbered from 1 without a gap."""
        numbers = [turn["sequence"] for turn in self._turns]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"L18: turns are numbered {numbers}"

    def _told(self) -> Iterator[str]:
        """L16: the number of turns is never told before the turn is there."""
        made = {_spec(run)["sequence"]: _version(run[0]) for run in self._turn_runs}
        for obj in self._run:
            number = (obj.get("status") or {}).get("turns") or 0
            if number and made.get(number, float("inf")) > _version(obj):
                yield f"L16: turn {number} was told before it was there"
                return

    def _rounds(self) -> Iterator[str]:
        """I3: what a turn has read is what its model was told, piece for piece."""
        for turn in self._turns:
            types = Counter(message["type"] for message in turn.get("consumed") or ())
            read = {
                "Text": sum(types[kind] for kind in _ACTIVE),
                "ToolUse": types["Background"],
                "ToolResult": types["Background"] + types["ToolResponse"],
            }
            told = Counter(block["type"] for block in turn.get("user") or ())
            if turn["outcome"] == "Answered" and any(told[kind] != number for kind, number in read.items()):
                yield f"I3: turn {turn['sequence']} read {dict(types)} and told {dict(told)}"

    def _pairs(self) -> Iterator[str]:
        """L14: each call has exactly one response, in the next round or while it is still open, and each its own id."""
        waits: list[str] = []
        seen: set[str] = set()
        for turn in self._turns:
            results, calls = _results(turn), _calls(turn)
            if results is not None and Counter(results) != Counter(waits):
                yield f"L14: turn {turn['sequence']} has responses to {results}, {waits} were open"
            if seen & set(calls) or len(set(calls)) < len(calls):
                yield f"L14: turn {turn['sequence']} makes a call whose id was there before"
            seen |= set(calls)
            waits = calls if results is not None else [] if _puts_aside(turn) else waits
        is_told = (self._status.get("turns") or 0) == len(self._turns)
        open_calls = [call["id"] for call in self._status.get("openToolCalls") or ()]
        if is_told and sorted(open_calls) != sorted(waits):
            yield f"L14: calls {waits} have no response, and open are {open_calls}"

    def _responses(self) -> Iterator[str]:
        """L14: nobody responds twice to one call; what came too late was put aside as a stray (L15)."""
        counts = Counter(_spec(run)["toolUseId"] for run in self._mail if _is_response(run))
        yield from (f"L14: call {call} was responded to {n} times" for call, n in counts.items() if n > 1)

    def _spent(self) -> Iterator[str]:
        """I3: each answer is counted, once."""
        if (self._status.get("turns") or 0) != len(self._turns):
            yield f"L16: {len(self._turns)} turns are there, {self._status.get('turns') or 0} are told"
            return
        spent = sum((turn.get("usage") or {}).get("calls", 0) for turn in self._turns)
        told = (self._status.get("usage") or {}).get("calls", 0)
        if spent != told:
            yield f"I3: {spent} answers are in its turns, {told} are counted"

    def _rests(self) -> Iterator[str]:
        """I4: nobody holds it any more; an idle one works on nothing, and says so if it doesn't read its mail."""
        phase = self._status.get("phase") or "Idle"
        if phase == "Awaiting":
            yield "I4: it is still Awaiting"
        if phase == "Idle" and self._status.get("serving"):
            yield f"I4: it is Idle and serves {self._status['serving']}"
        conditions = {c["type"] for c in self._status.get("conditions") or () if c["status"] == "True"}
        says_why = self._status.get("lastError") or conditions.intersection(_HELD_BACK)
        if phase == "Idle" and not says_why:
            yield from (f"I3: {_name(run)} waits, and nothing says why" for run in self._mail if self._waits(run))

    def _waits(self, run: Run) -> bool:
        pending = ((run[-1].get("status") or {}).get("phase") or "Pending") == "Pending"
        return pending and _uid(run) in self._there and (_spec(run).get("type") or "UserMessage") in _ACTIVE


def _results(turn: Json) -> list[str] | None:
    """The calls that a turn responds to; None: none of those that are open. Calls of background mail are its own."""
    told = turn.get("user") or ()
    own = {block["toolUseId"] for block in told if block["type"] == "ToolUse"}
    results = [b["toolUseId"] for b in told if b["type"] == "ToolResult" and b["toolUseId"] not in own]
    return results if turn["outcome"] == "Answered" or results else None


def _puts_aside(turn: Json) -> bool:
    """Whether it returns a round of responses, which closes their calls (L10)."""
    return any(message["type"] == "ToolResponse" for message in turn.get("consumed") or ())


def _calls(turn: Json) -> list[str]:
    blocks: Iterable[Json] = turn.get("assistant") or ()
    return [b["toolUseId"] for b in blocks if b["type"] == "ToolUse"] if turn["outcome"] == "Answered" else []


def _is_response(run: Run) -> bool:
    stray = (run[-1].get("status") or {}).get("reason") == _STRAY
    return _spec(run).get("type") == "ToolResponse" and not stray


def _is_of(turn: Run, session: Run) -> bool:
    owners = turn[-1]["metadata"].get("ownerReferences") or ()
    return any(owner["uid"] == _uid(session) for owner in owners)


def _spec(run: Run) -> Json:
    spec: Json = run[-1]["spec"]
    return spec


def _name(run: Run) -> str:
    return str(run[-1]["metadata"]["name"])


def _uid(run: Run) -> str:
    return str(run[-1]["metadata"]["uid"])


def _version(obj: Json) -> int:
    return int(obj["metadata"]["resourceVersion"])
