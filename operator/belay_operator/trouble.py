"""What the operator fails at again and again, said on the DelegationSweeper (RELIABILITY.md, fault 22)."""

from typing import Any

from belay_api.conditions import ConditionType
from belay_api.names import Ref
from belay_api.reasons import Reason, all_is_treated, keeps_failing
from belay_operator.apply import Applier
from belay_operator.keys import Key

PERSISTENT = 3
"""Failures in a row from which on it is no longer a hitch."""
_SAID_CHARS = 300


class Trouble:
    """Keeps condition `Degraded` true while something is tried in vain, with the last thing that was said of it."""

    def __init__(self, applier: Applier, sweeper: Ref) -> None:
        self._applier = applier
        self._sweeper = sweeper
        self._failing: dict[Key, tuple[int, str]] = {}

    def failed(self, key: Key, failures: int, error: Exception) -> None:
        """`key` failed for the `failures`-th time in a row."""
        self._failing[key] = failures, str(error)[:_SAID_CHARS]

    def over(self, key: Key) -> None:
        """`key` was treated."""
        self._failing.pop(key, None)

    async def tell(self, sweeper: dict[str, Any] | None) -> None:
        """Write the condition if it differs from what stands in `sweeper`, as last seen. Raises KubeError."""
        message = self._message()
        if message is None and not _stands(sweeper, None):
            return
        if message is None:
            await self._write(Reason.ALL_IS_TREATED, all_is_treated(), holds=False)
        elif not _stands(sweeper, message):
            await self._write(Reason.KEEPS_FAILING, message, holds=True)

    async def _write(self, reason: Reason, message: str, *, holds: bool) -> None:
        await self._applier.sweeper_condition(self._sweeper, ConditionType.DEGRADED, reason, message, holds=holds)

    def _message(self) -> str | None:
        """What fails, the first by name; None when nothing does."""
        persistent = sorted(key for key, (failures, _) in self._failing.items() if failures >= PERSISTENT)
        if not persistent:
            return None
        first = persistent[0]
        return keeps_failing(len(persistent), f"{first.kind} {first.ref}", self._failing[first][1])


def _stands(sweeper: dict[str, Any] | None, message: str | None) -> bool:
    """Whether the condition is True there already, with that message if one is given."""
    conditions = ((sweeper or {}).get("status") or {}).get("conditions") or []
    return any(
        c["type"] == ConditionType.DEGRADED and c["status"] == "True" and message in (None, c.get("message"))
        for c in conditions
    )
