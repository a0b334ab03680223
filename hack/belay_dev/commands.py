"""`belay dev` and `belay demo`: commands that come with the development tools (entry point group `belay.commands`)."""

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from belay_dev.clock import pause
from belay_dev.demo import play
from belay_dev.errors import DevError
from belay_dev.stack import Ready, Stack, Times

Seconds = Annotated[int | None, typer.Option(min=1, help="Seconds; the default of the installation when left out.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("dev")(dev)
    app.command("demo")(demo)


def dev(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when ready, and nothing else.")
    ] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Keep state here for the next start.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the gateway; 0 takes a free one.")] = 0,
    grace: Annotated[int | None, typer.Option(min=0, help="Seconds a lost session may take to return.")] = None,
    stale_after: Annotated[int | None, typer.Option(min=2, help="Seconds without a sign of life: stale.")] = None,
    heartbeat: Annotated[int | None, typer.Option(min=1, help="Seconds between two renewals of a session.")] = None,
    deadline: Annotated[int | None, typer.Option(min=1, help="Seconds a delegation may take.")] = None,
    stuck_threshold: Annotated[int | None, typer.Option(min=1, help="Seconds without a heartbeat: Stuck.")] = None,
    sweep_interval: Annotated[int | None, typer.Option(min=1, help="Seconds between two sweeps.")] = None,
) -> None:
    """Run control plane, operator and gateway on this machine until Ctrl-C."""
    times = Times(grace, stale_after, heartbeat, deadline, stuck_threshold, sweep_interval)

    def work() -> None:
        with Stack(data_dir, times, gateway_port=port) as stack:
            print(stack.ready.line() if as_json else _greeting(stack.ready), flush=True)
            while True:
                pause(1)
                stack.tend()

    _until_told(work)


def demo(
    picture: Annotated[Path | None, typer.Option(help="Keep what is shown as an SVG.", hidden=True)] = None,
) -> None:
    """Show the main job on a control plane of its own: work done, work orphaned, work overdue."""
    _until_told(lambda: play(picture))


def _until_told(work: Callable[[], None]) -> None:
    """Run `work`; SIGTERM and Ctrl-C unwind it, so that everything it started ends; one line for what it reports."""
    signal.signal(signal.SIGTERM, _unwind)
    try:
        work()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except DevError as error:
        print(f"belay: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


def _unwind(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _greeting(ready: Ready) -> str:
    path = "" if shutil.which("kubectl") else f"\n  export PATH=$PATH:{ready.kubectl.parent}      # has a kubectl"
    return f"""
Belay is ready: agents attach at {ready.gateway} (also /healthz, /metrics),
the operator shows itself at {ready.operator} (/healthz, /metrics). In another terminal:

  export KUBECONFIG={ready.kubeconfig}
  export BELAY_GATEWAY={ready.gateway}
  export BELAY_TOKEN_FILE={ready.token_file}{path}

  kubectl apply -f manifests/samples/agent.yaml
  belay agent run researcher --exec 'tr a-z A-Z'
  belay delegate researcher "hold the rope" --wait

Ctrl-C ends everything."""
