"""Everything that was written and acknowledged in one run, and what must be true of it (RELIABILITY.md, I1 to I5)."""

from collections import defaultdict
from collections.abc import Collection as Some

from belay_api.actions import Complete, OnAttempt
from belay_api.agent import OnAgentLost
from belay_api.conditions import ConditionType, condition_is_true
from belay_api.names import subscription_name
from belay_api.retrying import is_handed_back
from belay_api.transitions import HELD, TERMINAL, Phase, Writer, allowed, phase_of
from belay_kube.client import DELEGATIONS, Collection, Json

from .store import KEPT

Attempt = tuple[str, int]


class History:
    """Judges each write as it is made; what is wrong is kept in `broken`, in sentences."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        self.writes: list[tuple[Writer | None, Collection, Json]] = []
        """Changes made, by whom and to what; a write that changed nothing is none."""
        self._latest: dict[str, Json] = {}
        self._holders: defaultdict[Attempt, set[str]] = defaultdict(set)
        self._acknowledged: defaultdict[Attempt, set[str]] = defaultdict(set)
        self._results: dict[str, Json] = {}

    # --- while the run goes on ---

    def wrote(self, who: Writer | None, path: Collection, obj: Json) -> None:
        """An object as it is after a write."""
        uid = obj["metadata"]["uid"]
        before = self._latest.get(uid)
        if before and before["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]:
            return
        self.writes.append((who, path, obj))
        self._latest[uid] = obj
        if path == DELEGATIONS:
            self._judge(who, before or {}, obj)

    def refused(self, who: Writer | None, path: Collection, name: str, error: Exception) -> None:
        """The store would not have it: no process may even try what isn't its own."""
        self.broken.append(f"single writer: {who} tried to write {path.plural} {name}: {error}")

    def acknowledged(self, delegation: Json, session: str, action: OnAttempt) -> None:
        """An agent was told that what it said of an attempt counts."""
        attempt = (delegation["metadata"]["uid"], action.attempt)
        self._only_one(self._acknowledged, attempt, session, "was acknowledged to")
        if (delegation.get("status") or {}).get("attempt") != action.attempt:
            self.broken.append(f"D10: {action} was acknowledged, of an attempt that is over: {delegation['status']}")
        if isinstance(action, Complete):
            first = self._results.setdefault(attempt[0], action.result.wire())
            if first != action.result.wire():
                self.broken.append(f"I3: {delegation['metadata']['name']}: two results were acknowledged")

    def _judge(self, who: Writer | None, before: Json, obj: Json) -> None:
        old, new, name = before.get("status") or {}, obj.get("status") or {}, obj["metadata"]["name"]
        source, target = phase_of(old.get("phase")), phase_of(new.get("phase"))
        if source in TERMINAL and any(old.get(field) != new.get(field) for field in KEPT):
            self.broken.append(f"I2: {name} ended as {source} and was changed to {new}")
        if source is not target and not (who and allowed(source, target, who)):
            self.broken.append(f"single writer: {who} took {name} from {source} to {target}")
        taken_back = source in (Phase.IN_PROGRESS, Phase.STUCK) and target is Phase.QUEUED
        if (new.get("attempt") or 0) < (old.get("attempt") or 0) + taken_back:
            self.broken.append(
                f"D10: the attempt of {name} did not grow from {old.get('attempt')}: {new.get('attempt')}"
            )
        if new.get("sessionId"):
            attempt = (obj["metadata"]["uid"], new.get("attempt") or 0)
            self._only_one(self._holders, attempt, new["sessionId"], "was held by")

    def _only_one(self, table: defaultdict[Attempt, set[str]], attempt: Attempt, session: str, how: str) -> None:
        """I1."""
        table[attempt].add(session)
        sessions = self._holders[attempt] | self._acknowledged[attempt]
        if len(sessions) > 1:
            self.broken.append(f"I1: attempt {attempt} {how} {session}, of {sorted(sessions)}")

    # --- when nothing moves any more ---

    def ended(self, there: Some[Json]) -> list[str]:
        """I3 and I4: every delegation is over, visibly, and with the result that was acknowledged."""
        return [sentence for obj in there for sentence in self._end(obj)]

    def _end(self, obj: Json) -> list[str]:
        status, name = obj.get("status") or {}, obj["metadata"]["name"]
        phase = phase_of(status.get("phase"))
        if phase not in TERMINAL:
            return [f"I4: {name} is {phase} ({status.get('reason')}) after twice its deadline"]
        shown = status.get("reason") and status.get("completionTime")
        found = []
        if not (shown and condition_is_true(status.get("conditions") or [], ConditionType.FINISHED)):
            found.append(f"I3: {name} ended without a word: {status}")
        result = self._results.get(obj["metadata"]["uid"])
        if result is not None and (phase, status.get("result")) != (Phase.COMPLETED, result):
            found.append(f"I3: {name} is {phase} with {status.get('result')}, acknowledged was {result}")
        return found


def orphans(there: Some[Json], rows: Some[Json]) -> list[str]:
    """I5: work is held by sessions that are there, and no row stays of one that isn't; a grace has passed for all."""
    live = {row["metadata"]["name"] for row in rows if _phase(row) == "Live"}
    agents = {row["spec"]["agentRef"]["name"] for row in rows if _phase(row) == "Live"}
    return [
        f"I5: {obj['metadata']['name']} is {_phase(obj)} and nobody has it: {obj.get('status')}"
        for obj in there
        if _phase(obj) in HELD and not _waits(obj) and not _is_held(obj, live, agents)
    ]


def ignored(there: Some[Json]) -> list[str]:
    """D9: whatever somebody wanted to be cancelled is over."""
    return [
        f"D9: {obj['metadata']['name']} is {_phase(obj)}, though its cancel was asked for"
        for obj in there
        if obj["spec"].get("desiredState") == "Cancelled"
        and phase_of((obj.get("status") or {}).get("phase")) not in TERMINAL
    ]


def left_over(rows: Some[Json]) -> list[str]:
    """I5: once no work is left, no row of a lost session is."""
    return [f"I5: row {row['metadata']['name']} stays {_phase(row)}" for row in rows if _phase(row) != "Live"]


def _phase(obj: Json) -> str:
    return str((obj.get("status") or {}).get("phase"))


def _waits(obj: Json) -> bool:
    return bool(obj["spec"].get("onAgentLost") == OnAgentLost.WAIT)


def _is_held(obj: Json, live: Some[str], agents: Some[str]) -> bool:
    """Its session is there, or any of the agent if it is only offered."""
    agent, status = obj["spec"]["agentRef"]["name"], obj.get("status") or {}
    session = obj["spec"].get("sessionId") or status.get("sessionId")
    if is_handed_back(status):
        return False
    return subscription_name(agent, session) in live if session else agent in agents
