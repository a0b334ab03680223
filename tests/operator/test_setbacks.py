"""setbacks.py: how long a session is left alone after what, and what has to be another first (L10, L11)."""

import pytest

from belay_api.names import Ref
from belay_kube.clock import FakeClock
from belay_kube.errors import Unreachable
from belay_operator.decisions.claiming import NotYet
from belay_operator.drain.configuration import Configurations, Found, Named, Signature
from belay_operator.drain.setbacks import Setbacks
from belay_operator.observe.records import AgentRecord

from .mailbox import model_agent, ref, session

S = ref("s")
OLD: Signature = ("uid-a/1", "1", "")


class Configured(Configurations):
    """What an agent's configuration rests on, as the test says; `looks` counts how often that was read."""

    def __init__(self) -> None:
        self.secret = "1"
        self.looks = 0

    async def find(self, agent: Ref) -> Found:
        """As it is now."""
        self.looks += 1
        obj = {"metadata": {"uid": "uid-a", "generation": 1}}
        return Found(agent, obj, None, Named({"metadata": {"resourceVersion": self.secret}}))


class Site:
    """One session's setbacks, on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.configured = Configured()
        self.agent: AgentRecord | None = model_agent()
        self.setbacks = Setbacks(self.configured, lambda _: self.agent, self.clock)

    async def held(self) -> float:
        """How long it is left alone, tried until it isn't."""
        left = self.setbacks.held(S) or 0.0
        await self.clock.advance(left)
        assert self.setbacks.held(S) is None
        return left

    async def hindrance(self, name: str = "s") -> NotYet | None:
        """Why the model isn't asked."""
        return await self.setbacks.hindrance(session(name).record)


@pytest.fixture
def site() -> Site:
    """One session."""
    return Site()


async def test_I6_what_fails_is_tried_less_and_less_often(site: Site) -> None:
    """Twice as long each time, at most five minutes; all over once it went well."""
    waits = []
    for _ in range(10):
        site.setbacks.failed(S, ValueError("no"))
        waits.append(await site.held())
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    site.setbacks.went_well(S)
    site.setbacks.failed(S, ValueError("no"))
    assert await site.held() == 2


async def test_what_the_api_server_asks_for_is_waited(site: Site) -> None:
    """Where that is longer."""
    error = Unreachable("busy")
    error.delay = 30.0
    site.setbacks.failed(S, error)
    assert await site.held() == 30


async def test_I6_a_session_without_work_is_claimed_less_and_less_often(site: Site) -> None:
    """Until what was seen and what is there are the same."""
    for expected in (1, 2, 4):
        site.setbacks.was_idle(S)
        assert await site.held() == expected
    site.setbacks.agreed(S)
    site.setbacks.was_idle(S)
    assert await site.held() == 1


async def test_L10_after_a_failed_round_only_the_model_is_left_alone(site: Site) -> None:
    """The session may be claimed for all else."""
    site.setbacks.round_failed(S, 16)
    assert site.setbacks.held(S) is None
    assert await site.hindrance() == NotYet(until=16)
    await site.clock.advance(16)
    assert await site.hindrance() is None


async def test_L11_a_refused_key_is_looked_at_once_in_a_minute(site: Site) -> None:
    """Until it is another; then it is forgotten."""
    site.setbacks.refused(session().record, OLD)
    assert await site.hindrance() == NotYet(until=60)
    await site.clock.advance(59)
    site.configured.secret = "2"
    assert await site.hindrance() == NotYet(until=1)
    assert site.configured.looks == 0
    await site.clock.advance(1)
    assert await site.hindrance() is None
    assert [site.configured.looks, site.setbacks.is_refused(S)] == [1, False]


async def test_L11_the_same_key_is_not_tried_again(site: Site) -> None:
    """However often it is looked at."""
    site.setbacks.refused(session().record, OLD)
    for looks in (1, 2, 3):
        await site.clock.advance(60)
        assert await site.hindrance() == NotYet(until=60)
        assert site.configured.looks == looks


async def test_L11_a_changed_agent_is_looked_at_at_once(site: Site) -> None:
    """It was seen to change; a Secret isn't watched."""
    site.setbacks.refused(session().record, OLD)
    site.agent, site.configured.secret = None, "2"
    assert await site.hindrance() is None


async def test_L11_one_look_serves_all_sessions_of_an_agent(site: Site) -> None:
    """A thousand of them must not cost thousands of reads a minute."""
    for number in range(1000):
        site.setbacks.refused(session(f"s{number}").record, OLD)
    await site.clock.advance(60)
    for number in range(1000):
        assert await site.hindrance(f"s{number}") == NotYet(until=60)
    assert site.configured.looks == 1


async def test_a_session_that_is_gone_is_forgotten(site: Site) -> None:
    """Another of its name begins anew."""
    site.setbacks.refused(session().record, OLD)
    site.setbacks.round_failed(S, 16)
    site.setbacks.failed(S, ValueError("no"))
    site.setbacks.forget(S)
    assert [site.setbacks.held(S), site.setbacks.is_refused(S), await site.hindrance()] == [None, False, None]
