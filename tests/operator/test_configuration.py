"""drain/configuration.py: what a Model agent's calls are made with, on the real API server."""

from dataclasses import dataclass, field

import pytest

from belay_api.names import Ref
from belay_kube.client import AGENTS, Json, Kube
from belay_kube.clock import SystemClock
from belay_operator.drain.configuration import Configurations
from belay_operator.drain.llm.base import NotConfigured
from belay_operator.drain.store import Store
from belay_operator.observe.records import AgentRecord

from .mail import Mail


@dataclass
class Given:
    """Agent `m`, what the watch told of it, and what its calls are made with."""

    mail: Mail
    configurations: Configurations
    seen: dict[Ref, AgentRecord] = field(default_factory=dict)

    @property
    def ref(self) -> Ref:
        """The agent."""
        return self.mail.ref("m")

    def sees(self, obj: Json) -> None:
        """The watch told of it."""
        self.seen[self.ref] = AgentRecord.read(obj)

    async def renamed(self, model: str) -> Json:
        """The agent with another model."""
        change = {"spec": {"model": {"name": model}}}
        return await self.mail.kube.patch(AGENTS, self.mail.namespace, "m", change)

    async def model(self) -> str:
        """The model that is asked."""
        return (await self.configurations.find(self.ref)).configuration().model


@pytest.fixture
async def given(operator_kube: Kube, admin_kube: Kube, namespace: str) -> Given:
    """An agent that was made, and seen."""
    seen: dict[Ref, AgentRecord] = {}
    made = Given(Mail(admin_kube, namespace), Configurations(Store(operator_kube, SystemClock()), seen.get), seen)
    made.sees(await made.mail.agent())
    return made


async def test_an_agent_is_read_again_when_another_generation_was_seen(given: Given) -> None:
    """Not for each half-step; what is decided of it rests on what was seen, too."""
    told = [await given.model()]
    changed = await given.renamed("echo-2")
    told.append(await given.model())
    given.sees(changed)
    assert [*told, await given.model()] == ["echo-1", "echo-1", "echo-2"]


async def test_an_agent_that_was_not_seen_is_read_each_time(given: Given) -> None:
    """What is known of it may be of another of that name."""
    await given.model()
    given.seen.clear()
    await given.renamed("echo-2")
    assert await given.model() == "echo-2"


async def test_an_agent_that_was_made_anew_is_another(given: Given) -> None:
    """Its generation begins anew."""
    await given.model()
    await given.mail.kube.delete(AGENTS, given.mail.namespace, "m")
    given.sees(await given.mail.agent(model={"provider": "echo", "name": "echo-3"}))
    assert await given.model() == "echo-3"


async def test_an_agent_that_is_gone_has_no_configuration(given: Given) -> None:
    """As soon as it was seen to be gone."""
    await given.model()
    await given.mail.kube.delete(AGENTS, given.mail.namespace, "m")
    given.seen.clear()
    with pytest.raises(NotConfigured):
        await given.model()
