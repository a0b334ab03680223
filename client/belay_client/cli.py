"""The `belay` command: its commands, and the one place where errors become a line and an exit code.

Other packages add commands through the entry point group `belay.commands`: functions that take the typer app.
"""

import os
import sys
from importlib.metadata import EntryPoint, entry_points

import typer
from typer.exceptions import TyperException

from belay_client import (
    commands,
    commands_agent,
    commands_channel,
    commands_chat,
    commands_following,
    commands_permission,
)
from belay_client.console import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, complain, log_to_stderr
from belay_client.errors import ClientError, UsageError
from belay_kube.errors import KubeError

ENTRY_POINTS = "belay.commands"


def create_app() -> typer.Typer:
    """The app with every command that is installed."""
    app = typer.Typer(
        name="belay",
        help="Belay holds the rope between AI agents: delegate work, run agents, cancel.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_everywhere)
    commands_agent.register(app)
    commands_channel.register(app)
    commands.register(app)
    commands_following.register(app)
    commands_permission.register(app)
    commands_chat.register(app)
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: e.name):
        _register(app, entry)
    return app


def _everywhere() -> None:
    """Belay holds the rope between AI agents: delegate work, run agents, cancel."""


def _register(app: typer.Typer, entry: EntryPoint) -> None:
    try:
        entry.load()(app)
    except (ImportError, AttributeError) as error:
        complain(f"commands of {entry.value} can't be loaded: {error}")


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code. Every expected error is one line on standard error."""
    log_to_stderr(verbose=False)
    app = create_app()
    try:
        code = app(args=arguments, prog_name="belay", standalone_mode=False)
    except UsageError as error:
        complain(str(error))
        return EXIT_USAGE
    except TyperException as error:
        return _usage(error, _command_path(app, arguments))
    except (ClientError, KubeError) as error:
        complain(str(error))
        return EXIT_FAILED
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except typer.Exit as error:
        return error.exit_code
    return code if isinstance(code, int) else 0


def _command_path(app: typer.Typer, arguments: list[str]) -> str:
    """The command that was meant, as one would type it: the parser's own errors don't all say."""
    path, known = ["belay"], getattr(typer.main.get_command(app), "commands", {})
    for argument in arguments:
        if argument not in known:
            break
        path.append(argument)
        known = getattr(known[argument], "commands", {})
    return " ".join(path)


def _usage(error: TyperException, command: str) -> int:
    message = error.format_message()
    if message:
        complain(f"{message.rstrip('.')}: see `{command} --help`")
    return error.exit_code


def main() -> None:
    """The console script."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        code = EXIT_FAILED
    sys.exit(code)


if __name__ == "__main__":
    main()
