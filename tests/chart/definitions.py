"""Removes definitions, and returns when they are gone, also where the API server's own finalizer of them stops midway.

It deletes the objects of a definition, and writes into its status how far it is. Where that fails, as with a storage
that isn't ready yet (429), it writes so and tries again at once. A try that knows nothing yet of that last write meets
a Conflict, and leaves the rest to the next change of the definition; but it passes over changes that are only its own
words. Then nothing happens until its resync, each five minutes, unless something else changes: an annotation does.
"""

import json
from typing import Any

from belay_dev.clock import Deadline, pause
from belay_dev.controlplane import ControlPlane
from belay_dev.errors import ControlPlaneError

Json = dict[str, Any]

LOOK_SECONDS = 0.5
AGAIN_SECONDS = 10.0
"""Objects that go in order take five seconds, and more on a busy machine."""
TIMES = 12


def remove(plane: ControlPlane) -> None:
    """Delete every definition with all objects of it, and wait until they are gone.

    Raises AssertionError with what their finalizer says that it waits for.
    """
    plane.kubectl("delete", "crd", "--all", "--wait=false")
    gone(plane)


def gone(plane: ControlPlane) -> None:
    """Wait until those that were told to go are gone. Raises AssertionError as `remove` does."""
    for time in range(1, TIMES + 1):
        if not (left := _left_after_waiting(plane)):
            return
        _have_looked_at(plane, left, time)
    raise AssertionError(f"definitions are not gone after {TIMES * AGAIN_SECONDS:.0f} s: {left}")


def _left_after_waiting(plane: ControlPlane) -> dict[str, str]:
    """Those that are still there after a while, or none; each with what is said of its end."""
    deadline = Deadline(AGAIN_SECONDS)
    while (left := _left(plane)) and not deadline.passed:
        pause(LOOK_SECONDS)
    return left


def _left(plane: ControlPlane) -> dict[str, str]:
    found: list[Json] = json.loads(plane.kubectl("get", "crd", "-o", "json"))["items"]
    return {each["metadata"]["name"]: _said(each) for each in found}


def _said(definition: Json) -> str:
    conditions = (definition.get("status") or {}).get("conditions") or []
    return next((f"{c['reason']}: {c['message']}" for c in conditions if c["type"] == "Terminating"), "")


def _have_looked_at(plane: ControlPlane, left: dict[str, str], time: int) -> None:
    for name in left:
        try:
            plane.kubectl("annotate", "crd", name, f"looked-at={time}", "--overwrite")
        except ControlPlaneError as error:
            if "NotFound" not in str(error):
                raise
