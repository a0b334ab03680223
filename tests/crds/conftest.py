"""The accounts of the tests of the contract, and one namespace for each module's objects."""

from collections.abc import AsyncIterator

import pytest

from belay_kube.client import NAMESPACES, Kube


@pytest.fixture(scope="session")
def kubes(admin_kube: Kube, operator_kube: Kube, gateway_kube: Kube) -> dict[str, Kube]:
    """The clients by the word that the tables of `crds_cases` use."""
    return {"admin": admin_kube, "operator": operator_kube, "gateway": gateway_kube}


@pytest.fixture(scope="module")
async def shared(admin_kube: Kube) -> AsyncIterator[str]:
    """A namespace for a module's tests that leave nothing behind, or work on objects made once."""
    made = await admin_kube.create(NAMESPACES, None, {"metadata": {"generateName": "contract-"}})
    name: str = made["metadata"]["name"]
    yield name
    await admin_kube.delete(NAMESPACES, None, name)
