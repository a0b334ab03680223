"""What the tests of the contract share: small objects, the arrows as DESIGN.md draws them, the way to each phase."""

from typing import Any

from belay_api.meta import API_VERSION
from belay_kube.client import DELEGATIONS, JSON_PATCH, SUBSCRIPTIONS, Json, Kube

PHASES = ("Pending", "Queued", "Dispatched", "InProgress", "Stuck", "Completed", "Failed", "Cancelled")
TERMINAL = ("Completed", "Failed", "Cancelled")

# DESIGN.md sections 3 and 5, by hand. o: drawn by the operator, g: by the gateway, b: by either, =: the same phase
# again, .: by nobody. What the holder of the work draws is b: a gateway, or for Model agents the operator.
_GRID = """
              Pending Queued Dispatched InProgress Stuck Completed Failed Cancelled
  Pending        =      o        o          .        .       .        o       o
  Queued         .      =        o          .        .       g        b       o
  Dispatched     .      o        =          b        .       b        b       o
  InProgress     .      o        .          =        o       b        b       o
  Stuck          .      o        .          b        =       b        b       o
  Completed      .      .        .          .        .       .        .       .
  Failed         .      .        .          .        .       .        .       .
  Cancelled      .      .        .          .        .       .        .       .
"""
_WRITERS = {"o": {"operator"}, "g": {"gateway"}, "b": {"operator", "gateway"}, "=": {"operator", "gateway"}, ".": set()}

# The rows' arrows, as the issue and DESIGN.md section 3 name them; - is a row without a phase.
_ROWS = """
                 Live Disconnected Expired
  -               g        g          o
  Live            g        b          o
  Disconnected    g        g          o
  Expired         g        .          .
"""


def _read(grid: str) -> dict[tuple[str, str], set[str]]:
    head, *lines = (line.split() for line in grid.strip().splitlines())
    return {(line[0], target): _WRITERS[cell] for line in lines for target, cell in zip(head, line[1:], strict=True)}


EXPECTED = _read(_GRID)
"""Who may write a delegation's `target` over `source`."""
EXPECTED_ROWS = _read(_ROWS)
"""Who may write a row's `target` over `source`."""

WAY = {
    "Pending": (),
    "Queued": (("operator", "Queued"),),
    "Dispatched": (("operator", "Dispatched"),),
    "InProgress": (("operator", "Dispatched"), ("gateway", "InProgress")),
    "Stuck": (("operator", "Dispatched"), ("gateway", "InProgress"), ("operator", "Stuck")),
    "Completed": (("operator", "Dispatched"), ("gateway", "Completed")),
    "Failed": (("operator", "Failed"),),
    "Cancelled": (("operator", "Cancelled"),),
}
ROW_WAY = {
    "-": (),
    "Live": (("gateway", "Live"),),
    "Disconnected": (("gateway", "Live"), ("gateway", "Disconnected")),
    "Expired": (("gateway", "Live"), ("operator", "Expired")),
}

ENDED = {
    "reason": "Because",
    "message": "it did",
    "attempt": 1,
    "result": {"text": "done"},
    "completionTime": "2026-01-02T03:04:05.000000Z",
}


def delegation(name: str = "work", **spec: Any) -> Json:
    """A Delegation to the agent `a`; `spec` replaces or adds fields."""
    return _object("Delegation", name, {"agentRef": {"name": "a"}, "task": {"prompt": "do it"}, **spec})


def agent(name: str = "a", **spec: Any) -> Json:
    """An Agent."""
    return _object("Agent", name, spec)


def row(name: str = "a-1", **spec: Any) -> Json:
    """An AgentSubscription of the agent `a`, session `1`."""
    return _object("AgentSubscription", name, {"agentRef": {"name": "a"}, "sessionId": "1", **spec})


def permission(name: str = "p", **spec: Any) -> Json:
    """A PermissionRequest of the agent `a`, session `1`."""
    asked = {"agentRef": {"name": "a"}, "sessionId": "1", "requestId": "r1", "tool": "Bash"}
    return _object("PermissionRequest", name, {**asked, **spec})


def session(name: str = "s", **spec: Any) -> Json:
    """An AgentSession of the agent `a`."""
    return _object("AgentSession", name, {"agentRef": {"name": "a"}, **spec})


def message(name: str = "m", **spec: Any) -> Json:
    """A PendingMessage to the session `s`."""
    return _object("PendingMessage", name, {"sessionRef": {"name": "s"}, "content": "hello", **spec})


def turn(sequence: int = 1, **spec: Any) -> Json:
    """A SessionTurn of the session `s`, answered."""
    said = {"sessionRef": {"name": "s"}, "sequence": sequence, "outcome": "Answered"}
    return _object("SessionTurn", f"s-{sequence}", {**said, **spec})


def sweeper(name: str = "default", **spec: Any) -> Json:
    """A DelegationSweeper."""
    return _object("DelegationSweeper", name, spec)


def _object(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


async def in_phase(kubes: dict[str, Kube], namespace: str, phase: str, **spec: Any) -> Json:
    """A Delegation that was led to `phase` along allowed arrows; a terminal one with everything that stays."""
    made = await kubes["admin"].create(DELEGATIONS, namespace, delegation(phase.lower(), **spec))
    for writer, step in WAY[phase]:
        status = {"phase": step, **(ENDED if step in TERMINAL else {})}
        made = await kubes[writer].patch_status(DELEGATIONS, made, status)
    return made


async def row_in_phase(kubes: dict[str, Kube], namespace: str, phase: str) -> Json:
    """A row that was led to `phase` along allowed arrows."""
    name = f"a-{phase.lower().strip('-') or 'new'}"
    made = await kubes["gateway"].create(SUBSCRIPTIONS, namespace, row(name, sessionId=name))
    for writer, step in ROW_WAY[phase]:
        made = await kubes[writer].patch_status(SUBSCRIPTIONS, made, {"phase": step, "token": "t", "user": "u"})
    return made


def removal(path: str) -> dict[str, Any]:
    """Keyword arguments of a patch that removes what stands at `path`."""
    return {"body": [{"op": "remove", "path": path}], "content_type": JSON_PATCH}
