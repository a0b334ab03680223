"""A Deployment's controller and a node in one: replaces the pods of the rendered Deployments as their strategy says."""

import asyncio
import copy
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from belay_dev.controlplane import ControlPlane
from belay_dev.guard import Guard
from chart.containers import Container, free_port
from chart.service import Service

Json = dict[str, Any]

GATEWAY = "belay-gateway"
_PORTS = frozenset({"BELAY_PORT", "BELAY_HEALTH_PORT"})


class Rollout:
    """Made by `rolling_out`; one container is one pod. Gateways stand behind a Service while they are ready."""

    def __init__(self, plane: ControlPlane, guard: Guard, folder: Path, service: Service) -> None:
        self._plane = plane
        self._guard = guard
        self._folder = folder
        self._service = service
        self._made = 0
        self._templates: dict[str, Json] = {}
        self._pods: defaultdict[str, list[Container]] = defaultdict(list)
        self._ending: list[asyncio.Task[None]] = []
        self.ended: list[Container] = []

    async def to(self, deployments: Iterable[Json]) -> int:
        """Roll out those whose template has changed, all at the same time; returns how many these are."""
        changed = [each for each in deployments if self._templates.get(_name(each)) != each["spec"]["template"]]
        await asyncio.gather(*(self._roll(deployment) for deployment in changed))
        return len(changed)

    async def down(self) -> None:
        """End every pod in order, and wait for all that were ever ended."""
        for name, pods in self._pods.items():
            while pods:
                self._end(name, pods.pop(), grace=30)
        await asyncio.gather(*self._ending)

    async def _roll(self, deployment: Json) -> None:
        """Never more than replicas and surge, never fewer ready than replicas without the unavailable."""
        name, spec = _name(deployment), deployment["spec"]
        self._templates[name] = spec["template"]
        wanted, limits = spec["replicas"], spec["strategy"]["rollingUpdate"]
        old, new = self._pods[name], list[Container]()
        while old or len(new) < wanted:
            for _ in range(min(len(old), len(old) + len(new) - wanted + limits["maxUnavailable"])):
                self._end(name, old.pop(0), grace=spec["template"]["spec"]["terminationGracePeriodSeconds"])
            more = min(wanted - len(new), wanted + limits["maxSurge"] - len(old) - len(new))
            new += await asyncio.gather(*(self._ready(deployment) for _ in range(more)))
        self._pods[name] = new

    async def _ready(self, deployment: Json) -> Container:
        """One more pod, once its probes are answered."""
        self._made += 1
        own = _of_its_own(deployment, self._made)
        pod = await asyncio.to_thread(Container, self._plane, self._guard, own, self._folder)
        await asyncio.to_thread(pod.until_probed)
        if _name(deployment) == GATEWAY:
            self._service.add(pod.port)
        return pod

    def _end(self, name: str, pod: Container, grace: float) -> None:
        """It is sent nobody more, and told to end; nobody waits for that."""
        assert pod.process.alive, f"it ended by itself: {pod.process.tail()}"
        if name == GATEWAY:
            self._service.remove(pod.port)
        self.ended.append(pod)
        self._ending.append(asyncio.ensure_future(asyncio.to_thread(pod.process.stop, grace)))


@asynccontextmanager
async def rolling_out(plane: ControlPlane, guard: Guard, folder: Path, service: Service) -> AsyncIterator[Rollout]:
    """No pod yet; at the end none is left."""
    made = Rollout(plane, guard, folder, service)
    try:
        yield made
    finally:
        await made.down()


def _name(deployment: Json) -> str:
    name: str = deployment["metadata"]["name"]
    return name


def _of_its_own(deployment: Json, number: int) -> Json:
    """With a name and a port of this pod's own: here all share one address."""
    made = copy.deepcopy(deployment)
    made["metadata"]["name"] += f"-{number}"
    (container,) = made["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    port["containerPort"] = free_port()
    for variable in container["env"]:
        if variable["name"] in _PORTS:
            variable["value"] = str(port["containerPort"])
    return made
