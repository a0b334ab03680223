"""The next attempt of work that came to nothing: which is followed by another, and when (D7, D10, C9, G10, S12)."""

import pytest

from belay_api.agent import OnAgentLost
from belay_api.queueing import backoff_seconds
from belay_api.reasons import Reason
from belay_api.retrying import Tries, is_handed_back
from belay_api.times import to_wire
from belay_api.transitions import Phase
from belay_operator.decisions import fate
from belay_operator.decisions.retry import FRESH_ATTEMPT, backs_off_until
from belay_operator.decisions.view import AgentView, Change

from .builders import DelegationBuilder, agent, at, delegation, live, lost

HERE = agent({"s": live()})
NOW = 700


def held(name: str = "d") -> DelegationBuilder:
    """In progress at session s."""
    return delegation(name).in_progress(by="s")


def stuck() -> DelegationBuilder:
    """Silent since 0, and found so."""
    return held().beat(at=0).stuck()


def found(given: DelegationBuilder, view: AgentView = HERE) -> tuple[Phase, Reason] | None:
    """Phase and reason of what is decided at 700, or None."""
    change = fate.decide(given.work, view, at(NOW))
    return (change.target, change.reason) if change else None


def decided(given: DelegationBuilder, view: AgentView = HERE) -> Change:
    """What is decided; something must be."""
    change = fate.decide(given.work, view, at(NOW))
    assert change is not None
    return change


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(stuck(), None, id="one attempt: stays Stuck"),
        pytest.param(stuck().attempts(3), (Phase.QUEUED, Reason.NO_HEARTBEAT), id="attempts remain"),
        pytest.param(stuck().attempts(3).failures(2), None, id="none remains"),
        pytest.param(
            stuck().attempts(3, on=["NoHeartbeat"]), (Phase.QUEUED, Reason.NO_HEARTBEAT), id="silence is retried"
        ),
        pytest.param(stuck().attempts(3, on=["AgentFailed"]), None, id="silence is not retried"),
        pytest.param(held().beat(at=0).attempts(3), (Phase.STUCK, Reason.NO_HEARTBEAT), id="Stuck comes first (S3)"),
    ],
)
def test_S12_stuck_work_is_retried_where_its_policy_says_so(
    given: DelegationBuilder, expected: tuple[Phase, Reason] | None
) -> None:
    """By maxAttempts and `retry.on`; else it stays Stuck to its deadline."""
    assert found(given) == expected


def test_I7_nothing_is_requeued_in_blind_time() -> None:
    """A beat may be on its way."""
    assert found(stuck().attempts(3), agent({"s": live()}, blind=True)) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(stuck().asked_again(1), (Phase.QUEUED, Reason.RETRIED), id="asked"),
        pytest.param(stuck().attempts(2).failures(1).asked_again(1), (Phase.QUEUED, Reason.RETRIED), id="beyond limit"),
        pytest.param(held().asked_again(1), None, id="not Stuck"),
        pytest.param(stuck(), None, id="not asked"),
    ],
)
def test_S12_a_person_retries_stuck_work(given: DelegationBuilder, expected: tuple[Phase, Reason] | None) -> None:
    """retryAttempt was raised: the next attempt at once, whatever the policy."""
    assert found(given) == expected


def test_S12_a_persons_retry_is_done_once_and_counts_against_nothing() -> None:
    """The value that was acted on is remembered; no backoff holds the attempt up."""
    change = decided(stuck().attempts(2).asked_again(4))
    assert (change.fields["observedRetryAttempt"], change.fields["attempt"], change.fields["failures"]) == (4, 2, 0)
    again = delegation().asked_again(4).queued(at=NOW, reason=Reason.RETRIED, attempt=2)
    assert backs_off_until(again.work, at(NOW)) is None
    assert found(stuck().asked_again(4).observed(4)) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(held().beat(at=0), (Phase.STUCK, 3), id="silent"),
        pytest.param(held().attempts(2).handed_back(Reason.AGENT_FAILED), (Phase.QUEUED, 3), id="failed"),
        pytest.param(held().handed_back(Reason.RELEASED), (Phase.QUEUED, 3), id="released"),
        pytest.param(stuck().observed(2), (Phase.QUEUED, 3), id="asked while Stuck"),
    ],
)
def test_S12_a_retry_that_was_asked_for_too_early_is_not_done_later(
    given: DelegationBuilder, expected: tuple[Phase, int]
) -> None:
    """What was asked for up to now is remembered with Stuck and with every new attempt: it fires no second one."""
    change = decided(given.asked_again(3))
    assert (change.target, change.fields.get("observedRetryAttempt")) == expected


def test_S12_a_person_retries_stuck_work_that_was_handed_back() -> None:
    """The last attempt failed at the same moment: the person's word goes beyond any limit."""
    change = decided(stuck().handed_back(Reason.AGENT_FAILED).asked_again(1))
    assert (change.target, change.reason, change.fields["observedRetryAttempt"]) == (Phase.QUEUED, Reason.RETRIED, 1)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        pytest.param(agent({"s": lost(at=60), "t": live()}, brake_ends=NOW + 1), False, id="lost, and braked"),
        pytest.param(agent({"t": live()}, brake_ends=NOW + 1), False, id="its row is gone, and braked"),
        pytest.param(agent({"s": lost(at=60), "t": live()}, brake_ends=NOW), True, id="lost, the brake is over"),
        pytest.param(agent({"s": live()}, brake_ends=NOW + 1), True, id="live"),
        pytest.param(agent({"s": lost(at=690, closed=True), "t": live()}, brake_ends=NOW + 1), True, id="closed"),
    ],
)
def test_I7_the_brake_holds_back_retries_of_silence(view: AgentView, expected: bool) -> None:
    """Who went silent with most of the fleet may be at work still: its work is not offered to another."""
    given = stuck().attempts(3)
    assert found(given, view) == ((Phase.QUEUED, Reason.NO_HEARTBEAT) if expected else None)
    if not expected:
        assert fate.next_due(given.work, view) == view.brake_ends


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(held().attempts(2).handed_back(Reason.AGENT_FAILED), (Phase.QUEUED, 1), id="failed, one remains"),
        pytest.param(held().handed_back(Reason.AGENT_FAILED), (Phase.FAILED, None), id="failed, none remains"),
        pytest.param(
            held().attempts(2, on=["AgentLost"]).handed_back(Reason.AGENT_FAILED),
            (Phase.FAILED, None),
            id="failed, not retried",
        ),
        pytest.param(held().handed_back(Reason.RELEASED), (Phase.QUEUED, 0), id="released, though one attempt"),
        pytest.param(
            delegation().attempts(2).dispatched(at=0).queued(at=5).handed_back(Reason.AGENT_FAILED),
            (Phase.QUEUED, 1),
            id="D12 failed after the offer was taken back",
        ),
    ],
)
def test_D10_what_was_handed_back_is_followed_by_the_next_attempt(
    given: DelegationBuilder, expected: tuple[Phase, int | None]
) -> None:
    """A failure counts, a release doesn't; a failure that may not be retried is the end."""
    change = decided(given)
    assert (change.target, change.fields.get("failures")) == expected
    if change.target is Phase.QUEUED:
        assert {**FRESH_ATTEMPT, "attempt": 2, "queuedTime": to_wire(at(NOW))}.items() <= change.fields.items()


@pytest.mark.parametrize(
    ("policy", "most", "expected"),
    [
        pytest.param(OnAgentLost.CANCEL, 1, Phase.CANCELLED, id="Cancel"),
        pytest.param(OnAgentLost.FAIL, 1, Phase.FAILED, id="Fail"),
        pytest.param(OnAgentLost.REQUEUE, 1, Phase.FAILED, id="Requeue, none remains"),
        pytest.param(OnAgentLost.REQUEUE, 2, Phase.QUEUED, id="Requeue"),
        pytest.param(OnAgentLost.WAIT, 1, None, id="Wait"),
    ],
)
def test_C9_what_the_agent_forgot_is_an_orphan_at_once(policy: OnAgentLost, most: int, expected: Phase | None) -> None:
    """Treated as onAgentLost says, without grace, although its session is live."""
    given = held().attempts(most).on_lost(policy).handed_back(Reason.AGENT_FORGOT)
    assert found(given) == ((expected, Reason.AGENT_FORGOT) if expected else None)


def test_D9_the_end_of_what_was_handed_back_has_no_holder_to_be_told() -> None:
    """Nobody holds it, so nobody has to acknowledge its end."""
    ends = [
        decided(held().handed_back(Reason.AGENT_FORGOT)),
        decided(held().attempts(2).handed_back(Reason.RELEASED).cancel_asked()),
        decided(held().attempts(2).handed_back(Reason.RELEASED).due_in(60)),
    ]
    assert [end.reason for end in ends] == [Reason.AGENT_FORGOT, Reason.CANCELLED, Reason.DEADLINE_EXCEEDED]
    assert all(end.fields == {"sessionId": None, "gateway": None} for end in ends)


def test_G10_without_agent_lost_among_its_reasons_an_orphan_is_not_requeued() -> None:
    """onAgentLost=Requeue says what is done, `retry.on` whether it is retried at all."""
    given = held().attempts(3, on=["NoHeartbeat"]).on_lost(OnAgentLost.REQUEUE)
    assert found(given, agent({"s": lost(at=0)})) == (Phase.FAILED, Reason.AGENT_LOST)


def test_attempts_are_shown_with_their_reason() -> None:
    """Which of how many, after what, and when; also as a condition, which outlives the next reason."""
    change = decided(stuck().attempts(3))
    said = "attempt 2 of 3 after NoHeartbeat: no heartbeat for 700s, at 03:11:40Z"
    assert change.message == said
    assert [(c["type"], c["reason"], c["message"]) for c in change.fields["conditions"]] == [
        ("Retried", "NoHeartbeat", said)
    ]


@pytest.mark.parametrize(
    ("failures", "base", "least", "most"),
    [
        pytest.param(1, 10, 10, 11.5, id="first failure"),
        pytest.param(2, 10, 20, 23, id="doubled"),
        pytest.param(4, 10, 80, 92, id="and doubled"),
        pytest.param(99, 10, 3600, 4140, id="at most an hour"),
        pytest.param(2, 86_400, 86_400, 99_360, id="or what was asked for"),
        pytest.param(6, 0, 0, 0, id="none asked for"),
    ],
)
def test_backoff_doubles_within_bounds_and_is_the_same_for_every_operator(
    failures: int, base: int, least: float, most: float
) -> None:
    """Up to 15 % of jitter, by uid and number."""
    seconds = [backoff_seconds(f"uid-{number}", failures, base) for number in range(50)]
    assert all(least <= s <= most for s in seconds)
    assert seconds == [backoff_seconds(f"uid-{number}", failures, base) for number in range(50)]
    assert base == 0 or len(set(seconds)) > 40


def waits(reason: Reason, attempt: int = 3, failures: int = 2, backoff: int = 10) -> float | None:
    """Seconds until what was queued at 0 for `reason` may be offered again; None: at once."""
    given = delegation().attempts(9, backoff).failures(failures).queued(at=0, reason=reason, attempt=attempt)
    until = backs_off_until(given.work, at(0))
    assert until is None or backs_off_until(given.work, until) is None
    return None if until is None else (until - at(0)).total_seconds()


@pytest.mark.parametrize(
    ("reason", "least"),
    [
        pytest.param(Reason.NOT_ACCEPTED, 10, id="D7 not accepted: the same each time"),
        pytest.param(Reason.NO_HEARTBEAT, 20, id="silence"),
        pytest.param(Reason.AGENT_LOST, 20, id="lost"),
        pytest.param(Reason.AGENT_FAILED, 20, id="failed"),
        pytest.param(Reason.AGENT_BUSY, None, id="busy"),
    ],
)
def test_D7_what_backs_off_waits_from_when_it_was_queued(reason: Reason, least: float | None) -> None:
    """Attempt 3 with 10 s: not again before 20 s, but for what nobody took, and what waits for something else."""
    seconds = waits(reason)
    assert (seconds is None) == (least is None)
    assert seconds is None or least is None or least <= seconds <= least * 1.15


@pytest.mark.parametrize(
    ("attempt", "failures", "backoff", "least"),
    [
        pytest.param(2, 0, 10, 10, id="released once"),
        pytest.param(3, 0, 10, 20, id="released twice"),
        pytest.param(3, 1, 10, 10, id="released once, failed once"),
        pytest.param(2, 0, 0, 1, id="no backoff: a second all the same"),
        pytest.param(6, 0, 0, 16, id="no backoff: and growing"),
        pytest.param(99, 0, 0, 3600, id="at most an hour"),
    ],
)
def test_I6_work_that_is_released_again_and_again_waits_longer_each_time(
    attempt: int, failures: int, backoff: int, least: float
) -> None:
    """A release counts against no limit: only the wait keeps it from going round as fast as it can."""
    seconds = waits(Reason.RELEASED, attempt, failures, backoff)
    assert seconds is not None
    assert least <= seconds <= least * 1.15


def test_I6_an_offer_that_nobody_takes_goes_round_slowly_without_a_backoff() -> None:
    """backoffSeconds: 0 with a stuck threshold of a second was two writes a second up to the deadline."""
    assert waits(Reason.NOT_ACCEPTED, backoff=0) == 8


def test_releases_and_retries_by_people_do_not_lengthen_the_wait_after_a_failure() -> None:
    """Attempt 5 that follows the first failure waits as attempt 2 does."""
    seconds = waits(Reason.AGENT_FAILED, attempt=5, failures=1)
    assert seconds is not None
    assert 10 <= seconds <= 11.5


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({"phase": "InProgress", "reason": "AgentFailed"}, True, id="in progress"),
        pytest.param({"phase": "Stuck", "reason": "Released"}, True, id="stuck"),
        pytest.param({"phase": "Queued", "reason": "AgentFailed", "dispatchedTime": "x"}, True, id="late"),
        pytest.param({"phase": "Queued", "reason": "AgentFailed"}, False, id="the next attempt"),
        pytest.param({"phase": "Failed", "reason": "AgentFailed", "dispatchedTime": "x"}, False, id="ended"),
        pytest.param({"phase": "InProgress", "reason": "Accepted"}, False, id="held"),
        pytest.param({}, False, id="new"),
    ],
)
def test_D10_an_attempt_is_handed_back_until_the_operator_made_the_next(status: dict[str, str], expected: bool) -> None:
    """The reason says so, for the attempt that was offered."""
    assert is_handed_back(status) is expected


def test_released_attempts_raise_the_last_number_there_can_be() -> None:
    """Of three attempts one was released: the fourth is the last."""
    tries = Tries(attempt=1, failures=0, most=3, on=None).after(Reason.RELEASED).after(Reason.NO_HEARTBEAT)
    assert (tries.attempt, tries.failures, tries.last) == (3, 1, 4)
    assert tries.may_follow(Reason.NO_HEARTBEAT)
    assert not tries.after(Reason.AGENT_FAILED).may_follow(Reason.AGENT_LOST)


def test_the_end_of_handed_back_work_by_another_hand_leaves_no_holder() -> None:
    """Its parent's end, say: there is nobody who has to be told, and to answer; other work keeps its holder."""
    ended = Change(Phase.CANCELLED, Reason.PARENT_CANCELLED)
    given_up = delegation().in_progress(by="s").handed_back(Reason.AGENT_FORGOT).work
    assert fate.without_holder(given_up, ended).fields == {"sessionId": None, "gateway": None}
    assert fate.without_holder(delegation().in_progress(by="s").work, ended) == ended
