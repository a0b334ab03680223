"""The state machine: which steps there are. Whatever order they come in, what RELIABILITY.md calls I1 to I5 holds."""

from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from belay_api.agent import OnAgentLost
from belay_api.reasons import SubscriptionReason

from .connection import Step
from .operators import Sight
from .world import GATEWAYS, LONGEST_DEADLINE, SESSIONS, Coming, Who, Wish, Word, World

Now = Callable[[Coroutine[Any, Any, Any]], Any]
"""Does a step, from start to end."""

_WHO = st.sampled_from(SESSIONS)
_PLACE = st.integers(0, GATEWAYS - 1)
_PICK = st.integers(0, 3)
_WORDS = st.sampled_from([*Word, Word.ACCEPT, Word.ACCEPT, Word.COMPLETE])
_COMINGS = st.sampled_from(
    [
        *Coming,
        SubscriptionReason.CLOSED,
        SubscriptionReason.CONNECTION_LOST,
        SubscriptionReason.GOODBYE,
    ]
)
_SPEC = st.fixed_dictionaries(
    {"deadlineSeconds": st.sampled_from([30, 90, LONGEST_DEADLINE])},
    optional={
        "onAgentLost": st.sampled_from([str(policy) for policy in OnAgentLost]),
        "retry": st.fixed_dictionaries(
            {"maxAttempts": st.integers(1, 3), "backoffSeconds": st.sampled_from([0, 5])},
            optional={"on": st.lists(st.sampled_from(["AgentLost", "NoHeartbeat", "AgentFailed"]), unique=True)},
        ),
        "priority": st.integers(0, 1),
    },
)
_CHILD = st.sampled_from([None, None, 0, 1])
_LATE = st.sampled_from([False, False, False, True])


class Lifecycle(RuleBasedStateMachine):
    """What may happen; a subclass says where, and how a step is done."""

    now: Now

    def new_world(self) -> World:
        """A world of this run's own."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.world = self.new_world()
        self.now(self.world.begin())

    # --- people ---

    @initialize(works=st.lists(st.tuples(_WHO, _SPEC), min_size=1, max_size=3))
    def begin(self, works: list[tuple[Who, dict[str, Any]]]) -> None:
        """Some work is there from the start."""
        for who, spec in works:
            self.now(self.world.create(who[0], None, None, **spec))

    @rule(who=_WHO, addressed=st.booleans(), parent=_CHILD, spec=_SPEC)
    def create(self, who: Who, addressed: bool, parent: int | None, spec: dict[str, Any]) -> None:
        """Work is asked for."""
        self.now(self.world.create(who[0], who[1] if addressed else None, parent, **spec))

    @rule(what=st.sampled_from(Wish), pick=_PICK)
    def wish(self, what: Wish, pick: int) -> None:
        """A person wants something else."""
        self.now(self.world.wish(what, pick))

    # --- sessions ---

    @rule(who=_WHO, words=st.lists(_WORDS, max_size=3), pick=_PICK)
    def work_on(self, who: Who, words: list[Word], pick: int) -> None:
        """The ordinary course: everybody knows what is so, and a session takes work and goes on with it."""
        self.now(self.world.return_if_lost(who))
        self.now(self.world.catch_up())
        for word in (Word.ACCEPT, *words):
            self.now(self.world.say(who, word, pick, late=False))

    @rule(who=_WHO, words=st.lists(_WORDS, min_size=1, max_size=2), pick=_PICK, late=_LATE)
    def say(self, who: Who, words: list[Word], pick: int, late: bool) -> None:
        """A session speaks of an attempt, whatever became of it."""
        for word in words:
            self.now(self.world.say(who, word, pick, late=late))

    @rule(who=_WHO, word=_WORDS, pick=_PICK, again=st.booleans())
    def speak_of_the_attempt_before(self, who: Who, word: Word, pick: int, again: bool) -> None:
        """A session gives an attempt up, hears of the next, and speaks of the one before (D10)."""
        self.now(self.world.return_if_lost(who))
        self.now(self.world.catch_up())
        self.now(self.world.speak_of_the_attempt_before(who, word, pick, again=again))

    @rule(who=_WHO, place=_PLACE, what=_COMINGS)
    def come_and_go(self, who: Who, place: int, what: SubscriptionReason | Coming) -> None:
        """A session attaches, is taken over, resumes, or its socket ends."""
        self.now(self.world.come_and_go(who, place, what))

    @rule(who=_WHO, what=_COMINGS, seconds=st.sampled_from([10, 31, 80]))
    def stay_away(self, who: Who, what: SubscriptionReason | Coming, seconds: int) -> None:
        """A session goes, and nobody hears of it for a time."""
        self.now(self.world.come_and_go(who, 0, what))
        self.now(self.world.pass_time(seconds, watched=True))

    # --- processes ---

    @rule(place=_PLACE)
    def gateway_looks(self, place: int) -> None:
        """A gateway sees what changed, and tells."""
        self.now(self.world.gateway_looks(place))

    @rule(sight=st.sampled_from(Sight), works=st.booleans())
    def operator_sees(self, sight: Sight, works: bool) -> None:
        """One of the operator's watches catches up, the others are behind; it may act on that."""
        self.now(self.world.operator_sees(sight))
        if works:
            self.now(self.world.operator_works())

    @rule()
    def catch_up(self) -> None:
        """Everybody knows what is so, and acts."""
        self.now(self.world.catch_up())

    @rule(after=st.integers(0, 5), data=st.data())
    def operator_is_interrupted(self, after: int, data: st.DataObject) -> None:
        """The operator acts on what it knows; something else happens between two of its requests, or it dies."""
        self.now(self.world.operator_works(after, self._other(data)))

    @rule(place=_PLACE, after=st.integers(0, 3), data=st.data())
    def gateway_will_be_interrupted(self, place: int, after: int, data: st.DataObject) -> None:
        """Something happens between two of the next requests of a gateway, or it dies."""
        self.world.interrupt_gateway(place, after, self._other(data))

    @rule(place=st.one_of(st.none(), _PLACE))
    def crash(self, place: int | None) -> None:
        """A gateway, or the operator, is killed, and another one starts."""
        self.now(self.world.operator_crashes() if place is None else self.world.gateway_crashes(place))

    @rule(seconds=st.sampled_from([1, 10, 31, 46]), watched=st.booleans())
    def pass_time(self, seconds: int, watched: bool) -> None:
        """The clock moves on."""
        self.now(self.world.pass_time(seconds, watched=watched))

    def _other(self, data: st.DataObject) -> Step:
        """What may happen in between."""
        world, who, pick, place = self.world, data.draw(_WHO), data.draw(_PICK), data.draw(_PLACE)
        word, wish, coming = data.draw(_WORDS), data.draw(st.sampled_from(Wish)), data.draw(_COMINGS)
        steps: list[Step] = [
            lambda: world.say(who, word, pick, late=False),
            lambda: world.wish(wish, pick),
            lambda: world.come_and_go(who, place, coming),
            lambda: world.gateway_crashes(place),
            world.operator_crashes,
        ]
        return data.draw(st.sampled_from(steps))

    # --- what must be so ---

    @invariant()
    def holds(self) -> None:
        """No write and no answer broke a rule."""
        broken = self.world.history.broken
        assert not broken, "\n".join(broken)

    def teardown(self) -> None:
        """What must be so in the end."""
        if not self.world.history.broken:
            self.now(self.world.end())
            self.holds()
