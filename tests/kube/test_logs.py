"""What every line of a log says: the names of what is handled, in the task that handles it and in no other."""

import asyncio
import json
import subprocess
import sys
from contextlib import suppress

import structlog
from structlog.testing import capture_logs

from belay_api.names import Ref
from belay_kube.logs import about, also, nothing, say_names

log = structlog.get_logger(__name__)
AGENT, WORK = Ref("team-a", "writer"), Ref("team-a", "d-1")


def said(**more: object) -> dict[str, object]:
    """The names on a line that is logged here."""
    with capture_logs([say_names]) as logged:
        log.info("x", **more)
    (line,) = logged
    return {key: value for key, value in line.items() if key not in ("event", "log_level")}


def test_what_is_handled_is_on_the_line() -> None:
    """As `namespace/name`, and the namespace by itself; what isn't known is left out."""
    with about(agent=AGENT, delegation=WORK, session=None):
        assert said() == {"agent": "team-a/writer", "delegation": "team-a/d-1", "namespace": "team-a"}
    assert said() == {}


def test_names_are_added_on_the_way_in_and_gone_on_the_way_out() -> None:
    """Also after an exception."""
    with about(agent=AGENT):
        with suppress(ZeroDivisionError), about(session="s-1"):
            also(user="pat")
            assert said() == {"agent": "team-a/writer", "namespace": "team-a", "session": "s-1", "user": "pat"}
            raise ZeroDivisionError
        assert said() == {"agent": "team-a/writer", "namespace": "team-a"}


def test_what_a_line_says_itself_counts_more() -> None:
    """It is nearer."""
    with about(agent=AGENT):
        assert said(agent="other", namespace="else") == {"agent": "other", "namespace": "else"}


async def test_tasks_don_t_hear_of_each_other() -> None:
    """Two that take turns at every step: each says its own, as do the tasks that they begin."""
    met = asyncio.Barrier(2)

    async def inner() -> object:
        await met.wait()
        return said()["session"]

    async def handle(name: str) -> list[object]:
        with about(session=name):
            await met.wait()
            before = said()["session"]
            return [before, await asyncio.create_task(inner()), said()["session"]]

    assert list(await asyncio.gather(handle("a"), handle("b"))) == [["a"] * 3, ["b"] * 3]
    assert said() == {}


async def test_what_is_everybodys_is_nobodys() -> None:
    """A task that serves all says nothing of the one who happened to begin it."""

    async def shared() -> dict[str, object]:
        return said()

    with about(agent=AGENT):
        assert await asyncio.get_running_loop().create_task(shared(), context=nothing()) == {}


PROGRAM = """
import logging, structlog
from belay_api.names import Ref
from belay_kube.logs import about, configure_logs
configure_logs({form!r})
with about(agent=Ref("team-a", "writer"), session="s\\n1"):
    structlog.get_logger("ours").warning("one", n=1)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("theirs").exception("two %d", 2)
structlog.get_logger("ours").info("three")
logging.getLogger("theirs").info("never")
"""


def printed(form: str) -> list[str]:
    """What a program prints on standard error that logs in this form."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(form=form)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_in_json_every_line_is_an_object() -> None:
    """Ours and the libraries', tracebacks and all, with level, time and names."""
    one, two, three = map(json.loads, printed("json"))
    names = {"agent": "team-a/writer", "session": "s\n1", "namespace": "team-a"}
    assert [line["event"] for line in (one, two, three)] == ["one", "two 2", "three"]
    assert [line["level"] for line in (one, two, three)] == ["warning", "error", "info"]
    assert names.items() <= one.items()
    assert {**names, "logger": "theirs"}.items() <= two.items()
    assert "ValueError: broken" in two["exception"]
    assert not names.keys() & three.keys()
    assert all(line["timestamp"].endswith("Z") for line in (one, two, three))


def test_for_people_the_same_is_said() -> None:
    """A line each, the traceback below it."""
    lines = printed("console")
    assert "one" in lines[0]
    assert "agent=team-a/writer" in lines[0]
    assert any("two 2" in line and "agent=team-a/writer" in line for line in lines)
    assert "ValueError: broken" in lines
    assert "team-a" not in lines[-1]
