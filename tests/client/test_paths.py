"""The paths of the API server that names become a part of."""

import pytest

from belay_kube.client import DELEGATIONS
from belay_kube.errors import Invalid


def test_path_of_an_object() -> None:
    """As the API server documents it."""
    assert DELEGATIONS.url("ns", "d", "status") == "/apis/belay.dev/v1alpha1/namespaces/ns/delegations/d/status"
    assert DELEGATIONS.url() == "/apis/belay.dev/v1alpha1/delegations"


@pytest.mark.parametrize("name", ["../delegations/d", "a/b", "a/../b", "/", "a?b", "a#b", "%2e%2e"])
def test_name_is_one_step_of_a_path(name: str) -> None:
    """Whatever is in it: it can't lead to another object."""
    root = "/apis/belay.dev/v1alpha1/namespaces/"
    assert DELEGATIONS.url("ns", name).removeprefix(root).count("/") == 2
    assert DELEGATIONS.url(name).removeprefix(root).count("/") == 1
    assert not set("?#") & set(DELEGATIONS.url(name, name))


@pytest.mark.parametrize("name", [".", ".."])
def test_name_that_is_no_step(name: str) -> None:
    """There is no way to write it that servers and proxies between don't resolve: refused."""
    with pytest.raises(Invalid, match="not the name"):
        DELEGATIONS.url("ns", name)
    with pytest.raises(Invalid, match="not the name"):
        DELEGATIONS.url(name)
