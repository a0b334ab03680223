"""The main job, shown: work done, work whose agent was killed, work that never ends. Every step is waited for by its
fact, and one that does not come ends the demo with the reason.

The agents are `belay agent run` with a program of ours (demo_work.py) that fingerprints real files; nothing is canned.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from belay_dev.clock import Deadline, Stopwatch, pause
from belay_dev.errors import ControlPlaneError, DevError
from belay_dev.process import Process
from belay_dev.stack import Stack, Times, clean_environment

GRACE_SECONDS = 6
STEP_SECONDS = 30.0
POLL_SECONDS = 0.1
WORK = Path(__file__).with_name("demo_work.py")
AGENTS = """
apiVersion: belay.dev/v1alpha1
kind: Agent
metadata: {name: %s}
spec:
  description: %s
  owners: [{kind: ServiceAccount, name: belay-agent}]
"""
MODEL = """
apiVersion: belay.dev/v1alpha1
kind: Agent
metadata: {name: lead}
spec:
  runtime: Model
  description: Plans, hands parts of its work to others, and reports.
  model: {provider: echo, name: echo-1}
  tools:
  - {name: delegate, agents: [mason]}
"""
PLAN = """Have the walls built, and report.
::say I hand the walls to mason.
::call delegate {"agent": "mason", "prompt": "index %s for ever"}
::then
::say The walls did not get done. mason's part came back as: {result}
"""
PROCESSES = {
    "mason": "Builds walls, until somebody cuts its rope.",
    "indexer": "Fingerprints every file of a folder and writes an index.",
    "climber": "The same, until somebody cuts its rope.",
    "dreamer": "Works for ever.",
}

out = Console(highlight=False, soft_wrap=True, record=True)
_PICTURE = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg"><style>
.{unique_id}-matrix {{ font: {char_height}px Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }}
{styles}</style><defs>{lines}</defs>{chrome}
<g transform="translate({terminal_x}, {terminal_y})">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


class DemoError(DevError):
    """A step did not happen."""


def play(picture: Path | None = None) -> None:
    """Run the demo, keep a picture of what it printed. Raises DevError with the reason when a step doesn't happen."""
    watch = Stopwatch()
    with Stack(times=Times(grace=GRACE_SECONDS), say=_aside) as stack:
        stage = Stage(stack)
        for scene in (completed, orphaned, overdue, planned):
            scene(stage)
        out.print(f"\n[bold green]All of it happened, in {watch.seconds:.0f} s.[/] Try it yourself: belay dev\n")
    if picture:
        out.save_svg(str(picture), title="", code_format=_PICTURE)


class Stage:
    """What the scenes work with: a folder of files, the agents' processes, and kubectl."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.folder = stack.guard.folder("belay-demo-")
        self.files = self.folder / "files"
        sources = Path(__file__).parent
        self.files.mkdir()
        for source in sorted(sources.glob("*.py"))[:8]:
            shutil.copy(source, self.files)
        self._environment = {
            **clean_environment(),
            "KUBECONFIG": str(stack.ready.kubeconfig),
            "BELAY_GATEWAY": stack.ready.gateway,
            "BELAY_TOKEN_FILE": str(stack.ready.token_file),
        }

    def agent(self, name: str) -> Process:
        """Create the Agent and start the process that attaches as it."""
        self.stack.control_plane.kubectl("apply", "-f", "-", input=AGENTS % (name, PROCESSES[name]))
        command = f"{sys.executable} {WORK}"
        _shell(f"belay agent run {name} --exec 'python demo_work.py'")
        process = self._belay("agent", "run", name, "--exec", command, log=f"{name}.log")
        self.until(f"agent {name} is online", lambda: self.online(name), process)
        return process

    def delegate(self, agent: str, name: str, prompt: str, *flags: str) -> None:
        """Hand a task to an agent."""
        _shell(f"belay delegate {agent} --name {name} {' '.join([*flags, repr(prompt)])}")
        done = self._belay("delegate", agent, prompt, "--name", name, *flags, log=f"delegate-{name}.log")
        if not done.wait(STEP_SECONDS) or done.exit_code:
            raise DemoError(f"belay delegate failed:\n{done.tail()}")

    def show(self, *args: str) -> None:
        """Show what kubectl says."""
        _shell(f"kubectl {' '.join(args)}")
        out.print(self.stack.control_plane.kubectl(*args).rstrip(), markup=False)

    def status(self, name: str) -> dict[str, object]:
        """The status of a delegation."""
        obj = json.loads(self.stack.control_plane.kubectl("get", "delegation", name, "-o", "json"))
        status: dict[str, object] = obj.get("status") or {}
        return status

    def part_of(self, name: str) -> str:
        """The delegation that was made below another, or nothing."""
        listed = json.loads(
            self.stack.control_plane.kubectl(
                "get", "delegations", f"--field-selector=spec.parentRef.name={name}", "-o", "json"
            )
        )
        return next((str(obj["metadata"]["name"]) for obj in listed["items"]), "")

    def until(self, fact: str, holds: Callable[[], bool], process: Process | None = None) -> None:
        """Wait for a fact. Raises DemoError, with what the agent's process said, when it doesn't come."""
        deadline, watch = Deadline(STEP_SECONDS), Stopwatch()
        while not holds():
            self.stack.tend()
            if deadline.passed or (process and not process.alive):
                said = f"; its process said:\n{process.tail()}" if process else ""
                raise DemoError(f"this did not happen: {fact}{said}")
            pause(POLL_SECONDS)
        out.print(f"  [green]✓[/] {fact} [dim]({watch.seconds:.1f} s)[/]")

    def until_phase(self, name: str, phase: str, process: Process | None = None) -> dict[str, object]:
        """Wait until a delegation is in a phase."""
        self.until(f"{name} is {phase}", lambda: self.status(name).get("phase") == phase, process)
        return self.status(name)

    def online(self, name: str) -> bool:
        """Whether a session of the agent is attached, as its status says."""
        try:
            agent = json.loads(self.stack.control_plane.kubectl("get", "agent", name, "-o", "json"))
        except ControlPlaneError:
            return False
        return bool((agent.get("status") or {}).get("routable"))

    def _belay(self, *args: str, log: str) -> Process:
        entry = "from belay_client.cli import main; main()"
        command = [sys.executable, "-c", entry, *args]
        return self.stack.guard.spawn(command, log=self.folder / log, name=f"belay {args[0]}", env=self._environment)


def completed(stage: Stage) -> None:
    """An agent attaches, is handed work, tells how it goes, and completes it."""
    _title("1. An agent does its work")
    process = stage.agent("indexer")
    index = stage.folder / "INDEX.txt"
    stage.delegate("indexer", "index-files", f"index {stage.files} into {index}")
    stage.until("it reports progress", lambda: bool(stage.status("index-files").get("progress")), process)
    stage.show("get", "delegations")
    stage.until_phase("index-files", "Completed", process)
    stage.show("get", "delegations", "-o", "wide")
    _verify(stage.files, index)
    out.print(f"  [green]✓[/] {index.name} is right: {len(index.read_text().splitlines())} files fingerprinted")


def orphaned(stage: Stage) -> None:
    """An agent is killed in the middle of its work; after the grace the work is Cancelled, with the reason."""
    _title("2. An agent is killed in the middle of its work")
    process = stage.agent("climber")
    stage.delegate("climber", "climb", f"index {stage.files} for ever")
    stage.until("it reports progress", lambda: bool(stage.status("climb").get("progress")), process)
    _shell(f"kill -9 {process.pid}")
    process.kill()
    stage.until("its socket is gone: the agent is offline", lambda: not stage.online("climber"))
    stage.show("get", "agents,agentsubscriptions")
    out.print(f"  the work waits for {GRACE_SECONDS} s of grace, then nobody holds it any more")
    status = stage.until_phase("climb", "Cancelled")
    stage.show("get", "delegations")
    _expect("reason", status.get("reason"), "AgentOffline")
    out.print(f"  [green]✓[/] the reason: {status.get('message')}")


def overdue(stage: Stage) -> None:
    """An agent beats for ever; at the deadline its work is Failed, it is told, and its process really ends."""
    _title("3. An agent works on and on, past its deadline")
    process = stage.agent("dreamer")
    stage.delegate("dreamer", "dream", f"index {stage.files} for ever", "--deadline", "8s")
    stage.until("it beats", lambda: bool(stage.status("dream").get("lastHeartbeatTime")), process)
    stage.show("get", "delegations")
    status = stage.until_phase("dream", "Failed", process)
    _expect("reason", status.get("reason"), "DeadlineExceeded")
    stage.until(
        "it was told, and has really stopped", lambda: _holds(stage.status("dream"), "CancelAcknowledged"), process
    )
    stage.show("get", "delegations", "-o", "wide")
    stage.show("events", "--for", "delegation/dream")
    process.stop()


def planned(stage: Stage) -> None:
    """A model delegates a part of its task to an agent that is killed; it is told so, and finishes with that."""
    _title("4. A model hands on a part of its work, and that agent is killed")
    process = stage.agent("mason")
    _shell("kubectl apply -f lead.yaml   # runtime: Model; its model is the built-in echo, which plays a script")
    stage.stack.control_plane.kubectl("apply", "-f", "-", input=MODEL)
    stage.delegate("lead", "house", PLAN % stage.files)
    stage.until("lead answered with a tool call: mason has a delegation", lambda: bool(stage.part_of("house")))
    part = stage.part_of("house")
    stage.until("mason reports progress", lambda: bool(stage.status(part).get("progress")), process)
    stage.show("get", "agentsessions,sessionturns")
    _shell(f"kill -9 {process.pid}")
    process.kill()
    stage.until_phase(part, "Cancelled")
    status = stage.until_phase("house", "Completed")
    stage.show("get", "delegations")
    stage.show("get", "agentsessions,sessionturns")
    result = status.get("result")
    told = str(result.get("text") if isinstance(result, dict) else "").strip()
    if "AgentOffline" not in told:
        raise DemoError(f"the result of house should say that mason was lost, it is {told!r}")
    out.print(f"  [green]✓[/] lead was told, and finished with it: {told}", markup=True)


def _holds(status: dict[str, object], condition: str) -> bool:
    conditions = status.get("conditions")
    listed = conditions if isinstance(conditions, list) else []
    return any(c["type"] == condition and c["status"] == "True" for c in listed)


def _verify(files: Path, index: Path) -> None:
    """The index holds the SHA-256 of every file, as computed here anew."""
    lines = dict(line.split("  ", 1)[::-1] for line in index.read_text().splitlines())
    expected = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files.iterdir()}
    _expect("index", lines, expected)


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise DemoError(f"{what} should be {wanted!r}, it is {found!r}")


def _title(text: str) -> None:
    out.print(f"\n[bold]{text}[/]")


def _shell(command: str) -> None:
    out.print(f"\n  [cyan]$ {command}[/]")


def _aside(text: str) -> None:
    out.print(f"[dim]{text}[/]")
