"""What scripts wait for: `kubectl wait` on the conditions that the real processes write (D8)."""

import asyncio

import pytest

from belay_dev.errors import ControlPlaneError
from e2e.conftest import Belay


def wait_for(belay: Belay, name: str, condition: str, seconds: int = 30) -> str:
    """`kubectl wait`, which fails when the condition doesn't come."""
    kubectl = belay.stack.control_plane.kubectl
    return kubectl("wait", f"--for=condition={condition}", f"delegation/{name}", f"--timeout={seconds}s")


async def test_D8_kubectl_wait_returns_with_the_result(belay: Belay) -> None:
    """Started before the agent is there, it returns once the work is Completed, and the result can be read."""
    belay.create_agent("awaited")
    belay.run("delegate", "awaited", "hello", "--name", "waited-for")
    waiting = asyncio.create_task(asyncio.to_thread(wait_for, belay, "waited-for", "Complete"))
    agent = await asyncio.to_thread(belay.agent, "awaited", "tr a-z A-Z")
    assert "condition met" in await waiting
    assert "condition met" in wait_for(belay, "waited-for", "Finished")
    assert belay.status("delegation", "waited-for")["result"] == {"text": "HELLO"}
    agent.stop()


def test_D8_kubectl_wait_for_finished_never_hangs(belay: Belay) -> None:
    """Failed by its agent, failed at its deadline and cancelled are Finished too, and not Complete."""
    agent = belay.agent("unlucky", "exit 3")
    belay.run("delegate", "unlucky", "x", "--name", "broken")
    belay.run("delegate", "nobody-there", "x", "--name", "late", "--deadline", "1s")
    belay.run("delegate", "nobody-there", "x", "--name", "dropped")
    belay.run("cancel", "dropped")
    for name, phase in (("broken", "Failed"), ("late", "Failed"), ("dropped", "Cancelled")):
        assert "condition met" in wait_for(belay, name, "Finished")
        assert belay.status("delegation", name)["phase"] == phase
        with pytest.raises(ControlPlaneError, match="condition not met"):
            wait_for(belay, name, "Complete", seconds=0)
    agent.stop()
