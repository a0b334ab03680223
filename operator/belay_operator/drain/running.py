"""Tools that run in this process: tasks of their own, which end with a response, by timeout, or with the session."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from belay_api.names import Ref
from belay_operator.decisions.outcomes import Response
from belay_operator.observe.mailbox_records import SessionRecord

Key = tuple[Ref, str]
"""A session, by name and uid."""
_Step = Coroutine[Any, Any, Response]


class Running:
    """What was begun in this process, by session and the id of the call."""

    def __init__(self, look_at: Callable[[Ref], None]) -> None:
        self._look_at = look_at
        """Told of each session of which a tool has returned."""
        self._tasks: defaultdict[Key, dict[str, asyncio.Task[Response] | None]] = defaultdict(dict)

    def began(self, session: SessionRecord, call: str) -> None:
        """A call was started late, and runs elsewhere."""
        self._tasks[session.ref, session.uid].setdefault(call, None)

    def run(self, session: SessionRecord, call: str, tool: _Step) -> None:
        """Let a tool run; `tool` raises nothing."""
        task = asyncio.get_running_loop().create_task(tool, name=f"tool call {call} of {session.ref}")
        self._tasks[session.ref, session.uid][call] = task
        task.add_done_callback(lambda _: self._look_at(session.ref))

    def has_begun(self, session: SessionRecord, call: str) -> bool:
        """Whether a call was started in this process."""
        return call in self._tasks.get((session.ref, session.uid), ())

    def came(self, session: SessionRecord, call: str) -> Response | None:
        """What a tool returned; None: it runs, or isn't one of those here."""
        task = self._tasks.get((session.ref, session.uid), {}).get(call)
        return task.result() if task and task.done() and not task.cancelled() else None

    def stop(self, session: SessionRecord, call: str) -> None:
        """End a tool."""
        task = self._tasks.get((session.ref, session.uid), {}).get(call)
        if task:
            task.cancel()

    def keep(self, session: SessionRecord, calls: Collection[str]) -> None:
        """Only these calls of a session are open: what is left of others is let go."""
        held = self._tasks.get((session.ref, session.uid), {})
        for call in [call for call in held if call not in calls]:
            self.stop(session, call)
            del held[call]
        if not held:
            self._tasks.pop((session.ref, session.uid), None)

    def forget(self, ref: Ref) -> None:
        """A session is gone: so is whoever waits for its tools."""
        for key in [key for key in self._tasks if key[0] == ref]:
            for task in self._tasks.pop(key).values():
                if task:
                    task.cancel()

    async def close(self) -> None:
        """End all."""
        tasks = [task for held in self._tasks.values() for task in held.values() if task]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
