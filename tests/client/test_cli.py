"""Bad input to the real command: one line that helps, an exit code, no traceback."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from belay_client import cli
from client.belay_command import Said, belay
from client.cable_server import CableServer


@pytest.fixture(autouse=True)
def own_log_configuration() -> Iterator[None]:
    """`cli.run` configures logging for its process, which here is everyone's."""
    yield
    structlog.reset_defaults()


NOBODY = "http://127.0.0.1:1"
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: c, context: {cluster: c, user: u, namespace: mine}}]
"""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "nonsense"),
        (["--nonsense"], "--nonsense"),
        (["delegate"], "agent"),
        (["delegate", "a"], "prompt"),
        (["delegate", "a", ""], "prompt is empty"),
        (["delegate", "a", "x" * 65537], "64 KiB"),
        (["delegate", "a", "p", "--deadline", "soon"], "90s"),
        (["delegate", "a", "p", "--deadline", "0s"], "90s"),
        (["delegate", "a", "p", "--deadline", "1s", "--deadline-seconds", "1"], "not both"),
        (["delegate", "a", "p", "--deadline-seconds", "0"], "deadlineSeconds"),
        (["delegate", "a", "p", "--priority", "high"], "--priority"),
        (["delegate", "a", "p", "--priority", "5000"], "priority"),
        (["delegate", "a", "p", "--input", "x"], "name=value"),
        (["delegate", "a", "p", "--input", "x=1", "--input", "x=2"], "twice"),
        (["delegate", "a", "p", "--session", "no spaces"], "sessionId"),
        (["delegate", "a", "p", "--on-agent-lost", "Explode"], "--on-agent-lost"),
        (["delegate", "a", "p", "-o", "yaml"], "--output"),
        (["deny", "--reason"], "see `belay deny --help`"),
        (["agent"], "see `belay agent --help`"),
        (["agent", "run"], "name"),
        (["agent", "run", "a"], "--exec"),
        (["agent", "run", "a", "--exec", ""], "--exec"),
        (["agent", "run", "a", "--exec", "no-such-tool-xyz"], "command not found: no-such-tool-xyz"),
        (["agent", "run", "a", "--exec", "cat 'x"], "--exec"),
        (["agent", "run", "a", "--exec", "cat"], "BELAY_GATEWAY"),
        (["agent", "run", "a", "--exec", "cat", "--gateway", NOBODY], "BELAY_TOKEN"),
        (["agent", "run", "a", "--exec", "cat", "--gateway", NOBODY, "--max", "0"], "--max"),
        (["agent", "run", "a", "--exec", "cat", "--gateway", NOBODY, "--token-file", "/nowhere"], "/nowhere"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_usage(
    arguments: list[str], says: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by what was given, with what to give instead."""
    for name in ("BELAY_GATEWAY", "BELAY_TOKEN", "BELAY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    code = cli.run(arguments)
    said = Said(code, *capfd.readouterr())
    assert said.is_one_line(), said
    assert says in said.err
    assert said.out == ""


@pytest.mark.parametrize("name", ["../delegations/d", "..", ".", "a/b", "a%2Fb", "A", "a b"])
@pytest.mark.parametrize(
    "command",
    [
        ["cancel"], ["retry"], ["tree"], ["why"], ["approve"], ["deny"],
        ["delegate", "a", "p", "--name"], ["cancel", "d", "--namespace"],
        ["channel"], ["agent", "run", "--exec", "cat"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_names_that_lead_elsewhere(
    command: list[str], name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is never a path: refused as a wrong argument, before anything is sent to anybody."""
    monkeypatch.setenv("BELAY_GATEWAY", NOBODY)
    monkeypatch.setenv("BELAY_TOKEN", "secret")
    code = cli.run([*command, name])
    said = Said(code, *capfd.readouterr())
    assert said.is_one_line(), said
    assert (said.code, "is not a name" in said.err) == (2, True), said


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["delegate", "a"], ["agent", "run", "a", "--exec", "no-such-tool"]]
)
async def test_usage_as_a_process(arguments: list[str]) -> None:
    """The console script does the same: exit code 2."""
    said = await belay(*arguments)
    assert said.is_one_line(), said
    assert said.code == 2


@pytest.mark.parametrize(
    "changes", [["--session-id", "a b"], ["--gateway", "ftp://x"], ["--gateway", "http://u:p@x"], ["-n", ""]]
)
async def test_usage_of_agent_run_with_a_token(changes: list[str]) -> None:
    """Names and addresses that can't be right are refused before anything is sent."""
    said = await belay("agent", "run", "a", "--exec", "cat", "--gateway", NOBODY, *changes, BELAY_TOKEN="secret")
    assert said.is_one_line(), said
    assert said.code == 2


async def test_gateway_that_cannot_be_reached() -> None:
    """At first it is an error, and the token is not in it."""
    said = await belay("agent", "run", "a", "--exec", "cat", "--gateway", NOBODY, BELAY_TOKEN="secret")
    assert said.is_one_line(), said
    assert NOBODY in said.err
    assert "secret" not in said.err


@pytest.mark.parametrize("status", [401, 403, 404, 503])
async def test_gateway_that_refuses_the_upgrade(server: CableServer, status: int) -> None:
    """The token isn't accepted, or it isn't a gateway, or it can't serve now."""
    server.refuse = [status]
    said = await belay("agent", "run", "a", "--exec", "cat", "--gateway", server.url, BELAY_TOKEN="secret")
    assert said.is_one_line(), said
    assert ("token" if status in (401, 403) else str(status)) in said.err


async def test_agent_that_is_not_known(server: CableServer) -> None:
    """The gateway's own sentence."""
    server.reject = ("not_found", "agent default/a not found: create it first")
    said = await belay("agent", "run", "a", "--exec", "cat", "--gateway", server.url, BELAY_TOKEN="secret")
    assert said.is_one_line(), said
    assert "agent default/a not found" in said.err


@pytest.mark.parametrize("content", [None, "", "[]", "a: [", "x", "\x00", KUBECONFIG.replace("token: t", "token:")])
@pytest.mark.parametrize("arguments", [("delegate", "a", "p"), ("cancel", "d")])
async def test_kubeconfig_that_cannot_be_used(tmp_path: Path, content: str | None, arguments: tuple[str, ...]) -> None:
    """Missing, empty or not a kubeconfig."""
    file = tmp_path / "config"
    if content is not None:
        file.write_text(content)
    said = await belay(*arguments, "--kubeconfig", str(file))
    assert said.is_one_line(), said


async def test_api_server_that_cannot_be_reached(tmp_path: Path) -> None:
    """Says which."""
    (tmp_path / "config").write_text(KUBECONFIG)
    said = await belay("delegate", "a", "p", KUBECONFIG=str(tmp_path / "config"))
    assert said.is_one_line(), said
    assert NOBODY in said.err


async def test_context_that_does_not_exist(tmp_path: Path) -> None:
    """Says which."""
    (tmp_path / "config").write_text(KUBECONFIG)
    said = await belay("delegate", "a", "p", "--context", "other", KUBECONFIG=str(tmp_path / "config"))
    assert said.is_one_line(), said
    assert "other" in said.err


@pytest.mark.parametrize("stdin", [b"", b"  \n", b"\xff\xfe", b"x" * 65537])
async def test_prompt_from_standard_input_that_cannot_be(stdin: bytes) -> None:
    """Empty, not text, or too long."""
    said = await belay("delegate", "a", "-", stdin=stdin)
    assert said.is_one_line(), said
    assert "prompt" in said.err


async def test_version_and_help() -> None:
    """They need nothing."""
    assert "belay.dev/v1alpha1" in (await belay("version")).out
    for arguments in (["--help"], ["delegate", "--help"], ["agent", "run", "-h"]):
        said = await belay(*arguments)
        assert said.code == 0
        assert "Usage" in said.out
