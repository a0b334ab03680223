"""One sink told by readers of several namespaces: all that is there and nothing else, in contact only everywhere."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, NAMESPACES, Json, Kube, connect, pages
from belay_kube.clock import SystemClock
from belay_kube.errors import Permanent
from belay_kube.preflight import preflight, reading
from belay_kube.readers import Readers, everywhere
from belay_kube.scope import scope
from waiting import eventually


class Ear:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.contact: list[str] = []

    def changed(self, obj: Json) -> None:
        """It is there."""
        self.there.add(obj["metadata"]["name"])

    def deleted(self, obj: Json) -> None:
        """It is gone."""
        self.there.discard(obj["metadata"]["name"])

    def synced(self) -> None:
        """Contact."""
        self.contact.append("synced")

    def lost(self) -> None:
        """None."""
        self.contact.append("lost")


@pytest.fixture
async def places(admin_kube: Kube) -> AsyncIterator[tuple[str, str, str]]:
    """Three namespaces with an agent each, called as its place; the last one is none of our business."""
    names = []
    for place in ("first", "second", "other"):
        made = await admin_kube.create(NAMESPACES, None, {"metadata": {"generateName": f"test-{place}-"}})
        names.append(made["metadata"]["name"])
        await _agent(admin_kube, names[-1], place)
    yield names[0], names[1], names[2]
    for name in names:
        await admin_kube.delete(NAMESPACES, None, name)


@pytest.fixture
async def scoped(installed: ControlPlane, places: tuple[str, str, str]) -> AsyncIterator[Kube]:
    """A client that works in the first two of them."""
    kube = await connect(installed.kubeconfig)
    kube.namespaces = scope(places[0], [places[1]])
    yield kube
    await kube.close()


async def _agent(kube: Kube, namespace: str, name: str) -> None:
    body = {"apiVersion": "belay.dev/v1alpha1", "kind": "Agent", "metadata": {"name": name}, "spec": {}}
    await kube.create(AGENTS, namespace, body)


async def test_a_sink_hears_of_these_namespaces_and_of_no_other(
    admin_kube: Kube, scoped: Kube, places: tuple[str, str, str]
) -> None:
    """What is there, what comes and what goes, in each of them; contact is told once."""
    ear = Ear()
    reader = everywhere(scoped, AGENTS, ear, SystemClock())
    task = asyncio.create_task(reader.run())
    await reader.has_synced.wait()
    assert ear.there == {"first", "second"}
    for place in places:
        await _agent(admin_kube, place, f"new-in-{place}")
    await admin_kube.delete(AGENTS, places[1], "second")
    wanted = {"first", f"new-in-{places[0]}", f"new-in-{places[1]}"}
    await eventually(lambda: ear.there == wanted)
    assert ear.contact == ["synced"]
    assert reader.age() < 60
    task.cancel()


async def test_a_reader_of_its_own_is_asked_what_it_expects(scoped: Kube, places: tuple[str, str, str]) -> None:
    """An object that was made just now belongs to the reader of its namespace."""
    reader = everywhere(scoped, AGENTS, Ear(), SystemClock())
    assert isinstance(reader, Readers)
    made = {"metadata": {"namespace": places[0], "name": "x", "resourceVersion": "1"}}
    assert reader.expects(made)


async def test_contact_is_told_when_all_have_it(scoped: Kube, places: tuple[str, str, str]) -> None:
    """One that is lost blinds all, and is told once; the last to come back ends that."""
    ear = Ear()
    reader = everywhere(scoped, AGENTS, ear, SystemClock())
    assert isinstance(reader, Readers)
    first, second = (each._sink for each in reader._each.values())
    for step in (first.synced, second.synced, first.lost, second.lost, first.synced, second.synced):
        step()
    assert ear.contact == ["synced", "lost", "synced"]


async def test_lists_go_through_these_namespaces_as_of_the_first(scoped: Kube) -> None:
    """Every page says the same version: what was made while another namespace was listed isn't taken for gone."""
    listed = [page async for page in pages(scoped, AGENTS)]
    assert {item["metadata"]["name"] for page in listed for item in page["items"]} == {"first", "second"}
    assert len({page["metadata"]["resourceVersion"] for page in listed}) == 1


async def test_what_is_missing_is_told_with_its_namespace(
    installed: ControlPlane, places: tuple[str, str, str], tmp_path: Path
) -> None:
    """The rights that a process needs are asked for in each namespace it works in."""
    plane, account = installed, f"system:serviceaccount:{places[0]}:default"
    plane.kubectl("wait", "--for=create", "serviceaccount/default", "-n", places[0], "--timeout=60s")
    for place in places[:2]:
        plane.kubectl("create", "role", "reads", "--verb=get,list", "--resource=agents.belay.dev", "-n", place)
        plane.kubectl("create", "rolebinding", "reads", "--role=reads", f"--user={account}", "-n", place)
    plane.kubectl("create", "role", "more", "--verb=watch", "--resource=agents.belay.dev", "-n", places[0])
    plane.kubectl("create", "rolebinding", "more", "--role=more", f"--user={account}", "-n", places[0])
    kube = await connect(plane.service_account_kubeconfig(places[0], "default", tmp_path / "kubeconfig"))
    kube.namespaces = scope(places[0], [places[1]])
    with pytest.raises(Permanent, match=f"missing permission: watch agents .* in {places[1]}; grant"):
        await preflight(kube, places[0], reading("agents"), "belay-gateway")
    await kube.close()


@pytest.mark.parametrize(
    ("own", "watched", "wanted"),
    [
        pytest.param("belay", [], (), id="all"),
        pytest.param("belay", ["b", "a"], ("a", "b", "belay"), id="some, and its own"),
        pytest.param("a", ["a", "a"], ("a",), id="each once"),
    ],
)
def test_the_scope_of_a_process(own: str, watched: list[str], wanted: tuple[str, ...]) -> None:
    """None given: everywhere."""
    assert scope(own, watched) == wanted
