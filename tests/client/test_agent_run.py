"""`belay agent run`: the real command, real processes, and a gateway's cable end."""

import asyncio
import signal
from pathlib import Path

import pytest

from belay_api.actions import Accept, Cancelled, Complete, Fail, Goodbye, ProgressMade
from belay_api.messages import ResumeVerdict
from belay_client.agent_run import Runner, Stop
from belay_client.processgroup import KILL_AFTER_SECONDS
from belay_kube.clock import FakeClock
from client.belay_command import Said, belay, ended, start
from client.cable_server import CableServer
from client.conftest import Open
from client.facts import alive, pids, until


def run(server: CableServer, command: str, *flags: str) -> "asyncio.Task[Said]":
    """The command, run to its end beside the test."""
    gateway = ("--gateway", server.url, "--session-id", "s1")
    return asyncio.create_task(belay("agent", "run", "a", "--exec", command, *gateway, *flags, BELAY_TOKEN="secret"))


async def test_one_delegation_from_prompt_to_result(server: CableServer) -> None:
    """`--once`: prompt in, progress and result out, goodbye, exit code 0, and the log on standard error."""
    running = run(server, "echo '::progress 40 half'; cat; echo \" for $BELAY_DELEGATION\"", "--once")
    socket = await server.socket()
    await socket.dispatch("d", prompt="hello")
    said = await running
    assert socket.of(Complete)[0].result.text == "hello for d"
    assert [(p.progress.percent, p.progress.message) for p in socket.of(ProgressMade)] == [(40, "half")]
    assert len(socket.of(Goodbye)) == 1
    assert said.code == 0
    assert said.out == ""
    assert [word for word in ("attached", "offered", "started", "progress", "finished") if word not in said.err] == []
    assert "secret" not in said.err


async def test_failure_carries_code_and_end_of_errors(server: CableServer) -> None:
    """The delegation is Failed, the runner itself did its job."""
    running = run(server, "echo broken >&2; exit 7", "--once")
    socket = await server.socket()
    await socket.dispatch()
    said = await running
    assert socket.of(Fail)[0].message == "the command exited with code 7: broken"
    assert said.code == 0


async def test_result_that_is_too_large_fails(server: CableServer) -> None:
    """With what to do instead; also when it only is too large once it is escaped."""
    running = run(server, "head -c 65000 /dev/zero", "--once")
    socket = await server.socket()
    await socket.dispatch()
    await running
    assert "URI" in socket.of(Fail)[0].message


async def test_input_that_no_environment_can_hold_fails(server: CableServer) -> None:
    """A NUL byte: the delegation fails with the reason, the runner goes on."""
    running = run(server, "cat", "--once")
    socket = await server.socket()
    await socket.dispatch(inputs={"x": "a\0b"})
    await running
    assert "could not be started" in socket.of(Fail)[0].message


async def test_cancel_is_acknowledged_when_the_group_is_gone(server: CableServer, tmp_path: Path) -> None:
    """TERM first; the proof goes out once nothing of it is left, and nothing is reported as done."""
    running = run(server, f"sleep 900 & echo $$ $! > {tmp_path}/pids; wait", "--once")
    socket = await server.socket()
    await socket.dispatch()
    started = await pids(tmp_path / "pids", 2)
    await socket.cancel()
    await socket.wait_for(Cancelled)
    assert not any(alive(pid) for pid in started)
    await running
    assert not socket.of(Complete)
    assert not socket.of(Fail)


async def test_D9_a_process_that_ignores_term_is_killed_and_then_acknowledged(
    server: CableServer, channel: Open, tmp_path: Path
) -> None:
    """It, and its child: the proof does not go out in the ten seconds that they are given, only once both are dead."""
    script, clock = tmp_path / "stubborn", FakeClock()
    script.write_text(f"trap '' TERM; echo $$ >> {tmp_path}/pids; while :; do sleep 1; done")
    async with channel() as attached:
        runner = Runner(attached, f"sh {script} & exec sh {script}", clock, Stop(), once=True)
        running = asyncio.create_task(runner.run())
        socket = await server.socket()
        await socket.dispatch()
        started = await pids(tmp_path / "pids", 2)
        await socket.cancel()
        await socket.cancel("other")  # answered at once: nobody holds it, so the first one has been heard too
        await socket.wait_for(Cancelled)
        try:
            while clock.monotonic() < KILL_AFTER_SECONDS - 0.2:
                await clock.advance(0.1)
            assert all(alive(pid) for pid in started)
            assert [action.name for action in socket.of(Cancelled)] == ["other"]
        finally:
            while not running.done():
                await clock.advance(0.1)
                await asyncio.sleep(0.01)
        assert [action.name for action in socket.of(Cancelled)] == ["other", "d"]
        assert not any(alive(pid) for pid in started)


async def test_D9_cancel_that_is_learnt_at_reconnect_ends_the_process(server: CableServer, tmp_path: Path) -> None:
    """It ended while the agent was away: the same end, and the proof on the new connection."""
    running = run(server, f"sleep 900 & echo $$ $! > {tmp_path}/pids; wait", "--once")
    socket = await server.socket()
    await socket.dispatch()
    started = await pids(tmp_path / "pids", 2)
    server.verdicts["d"] = ResumeVerdict.CANCELLED
    await socket.drop()
    again = await server.socket(2)
    assert (await again.wait_for(Cancelled)).name == "d"
    assert not any(alive(pid) for pid in started)
    assert (await running).code == 0
    assert not again.of(Fail)


async def test_D9_work_that_another_attempt_replaced_ends_without_proof(server: CableServer, tmp_path: Path) -> None:
    """Nobody waits for a word of it, but its process is ended all the same."""
    running = run(server, f"echo $$ > {tmp_path}/pids; exec sleep 900", "--once")
    socket = await server.socket()
    await socket.dispatch()
    (pid,) = await pids(tmp_path / "pids", 1)
    server.verdicts["d"] = ResumeVerdict.SUPERSEDED
    await socket.drop()
    again = await server.socket(2)
    assert (await running).code == 0
    assert not alive(pid)
    assert not again.of(Cancelled)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_signal_ends_the_commands_then_says_goodbye(
    server: CableServer, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Nothing is left running, nothing is reported as failed."""
    process = await start(
        "agent", "run", "a", "--exec", f"sleep 900 & echo $$ $! > {tmp_path}/pids; wait", "--gateway", server.url,
        BELAY_TOKEN="secret",
    )  # fmt: skip
    finished = asyncio.create_task(ended(process))
    socket = await server.socket()
    await socket.dispatch()
    started = await pids(tmp_path / "pids", 2)
    process.send_signal(number)
    await socket.wait_for(Goodbye)
    assert not any(alive(pid) for pid in started)
    said = await finished
    assert said.code == code
    assert "Traceback" not in said.err
    assert not socket.of(Complete)
    assert not socket.of(Fail)


async def test_runner_that_is_killed_leaves_nothing(server: CableServer, tmp_path: Path) -> None:
    """SIGKILL: the guard ends the group."""
    process = await start(
        "agent", "run", "a", "--exec", f"sleep 900 & echo $$ $! > {tmp_path}/pids; wait", "--gateway", server.url,
        BELAY_TOKEN="secret",
    )  # fmt: skip
    socket = await server.socket()
    await socket.dispatch()
    started = await pids(tmp_path / "pids", 2)
    process.kill()
    await ended(process)
    await until(lambda: not any(alive(pid) for pid in started))


async def test_no_more_than_max_at_once(server: CableServer, tmp_path: Path) -> None:
    """The third offer isn't accepted while two run; the others may have it."""
    command = f"echo $$ >> {tmp_path}/pids; while ! test -e {tmp_path}/go; do sleep 0.02; done"
    process = await start(
        "agent", "run", "a", "--exec", command, "--gateway", server.url, "--max", "2", BELAY_TOKEN="secret"
    )
    finished = asyncio.create_task(ended(process))
    socket = await server.socket()
    for name in ("one", "two", "three"):
        await socket.dispatch(name)
    await pids(tmp_path / "pids", 2)
    await socket.cancel("other")
    await socket.wait_for(Cancelled)
    assert [action.name for action in socket.of(Accept)] == ["one", "two"]
    (tmp_path / "go").touch()
    await socket.wait_for(Complete, 3)
    process.terminate()
    assert (await finished).code == 0


async def test_work_goes_on_across_a_broken_connection(server: CableServer, tmp_path: Path) -> None:
    """The command is not disturbed, and its result arrives on the next connection."""
    running = run(
        server, f"echo $$ > {tmp_path}/pids; while ! test -e {tmp_path}/go; do sleep 0.02; done; echo ok", "--once"
    )
    socket = await server.socket()
    await socket.dispatch()
    await pids(tmp_path / "pids", 1)
    await socket.drop()
    (tmp_path / "go").touch()
    assert (await (await server.socket(2)).wait_for(Complete)).result.text == "ok"
    assert (await running).code == 0


async def test_replaced_runner_ends_with_one_line(server: CableServer, tmp_path: Path) -> None:
    """Another process took the session: its commands end, and it says why."""
    running = run(server, f"echo $$ > {tmp_path}/pids; exec sleep 900")
    socket = await server.socket()
    await socket.dispatch()
    (pid,) = await pids(tmp_path / "pids", 1)
    await socket.raw(type="disconnect", reason="replaced", reconnect=False)
    said = await running
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("belay: another process attached as the same session")
    assert "Traceback" not in said.err
    assert not alive(pid)


async def test_nobody_reads_the_log(server: CableServer) -> None:
    """A broken standard error ends neither the channel nor the work."""
    process = await start(
        "agent", "run", "a", "--exec", "echo x >&2; echo ok", "--gateway", server.url, BELAY_TOKEN="s"
    )
    socket = await server.socket()
    assert process.stderr is not None
    process.stderr._transport.close()  # type: ignore[attr-defined]
    for name in ("one", "two"):
        await socket.dispatch(name)
    assert (await socket.wait_for(Complete, 2)).result.text == "ok"
    process.terminate()
    assert (await ended(process)).code == 0


async def test_log_that_is_read_late_stops_nothing(server: CableServer) -> None:
    """A full pipe or a paused terminal: the work goes on, and what was left out of the log is said."""
    command = "head -c 2000000 /dev/zero | tr '\\0' x >&2; echo ok"
    process = await start("agent", "run", "a", "--exec", command, "--gateway", server.url, "--once", BELAY_TOKEN="s")
    socket = await server.socket()
    await socket.dispatch()
    assert (await socket.wait_for(Complete)).result.text == "ok"
    said = await ended(process)
    assert said.code == 0
    assert "bytes left out" in said.err
    assert "finished" in said.err


async def test_signal_while_waiting_for_a_gateway(server: CableServer) -> None:
    """With --retry and no gateway there is nothing to end: it just exits."""
    server.refuse = [503] * 1000
    process = await start(
        "agent", "run", "a", "--exec", "cat", "--gateway", server.url, "--retry", BELAY_TOKEN="secret"
    )
    finished = asyncio.create_task(ended(process))
    await until(lambda: bool(server.tries))
    process.terminate()
    said = await finished
    assert said.code == 0
    assert "Traceback" not in said.err
