"""What a client takes from its environment: a proxy, once, and never a password."""

import re
from pathlib import Path

import pytest

from belay_dev.controlplane import ControlPlane
from belay_kube.client import AGENTS, connect
from belay_kube.errors import Permanent, Unreachable
from belay_kube.preflight import preflight, reading
from belay_kube.reaching import KUBECONFIG, POD, Source

NOBODY = "http://127.0.0.1:1"


async def test_passwords_of_the_environment_are_not_looked_at(
    installed: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ~/.netrc with a password for every host changes nothing: the client has a token of its own."""
    (tmp_path / "netrc").write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    kube = await connect(installed.service_account_kubeconfig("belay", "belay-operator", tmp_path / "kubeconfig"))
    assert (await kube.list(AGENTS, "default"))["items"] == []
    await kube.close()


async def test_the_proxy_of_the_environment_is_used(installed: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers at the proxy: nothing arrives, unless the environment says that this address goes around it."""
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", NOBODY)
    through = await connect(installed.kubeconfig)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    around = await connect(installed.kubeconfig)
    said = re.escape(
        f"the proxy {NOBODY.removeprefix('http://')} does not answer (connection refused): mend HTTPS_PROXY"
    )
    with pytest.raises(Unreachable, match=said):
        await through.list(AGENTS, "default")
    assert (await around.list(AGENTS, "default"))["items"] == []
    for kube in (through, around):
        await kube.close()


@pytest.mark.parametrize("source", [KUBECONFIG, POD], ids=["kubeconfig", "pod"])
async def test_who_is_not_accepted_hears_where_to_mend_it(
    source: Source, installed: ControlPlane, tmp_path: Path
) -> None:
    """In the kubeconfig, or at the ServiceAccount of the pod."""
    config = installed.service_account_kubeconfig("belay", "belay-operator", tmp_path / "kubeconfig")
    config.with_name(f"{config.name}.token").write_text("nonsense")
    kube = await connect(config)
    assert kube.source is KUBECONFIG
    kube.source = source
    with pytest.raises(Permanent, match=re.escape(source.credential)):
        await preflight(kube, "belay", reading("agents"), "belay-operator")
    await kube.close()
