"""Waiting for facts: tests never wait for time, only until something is so, and not for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
SECONDS = 20.0
_PAUSE = 0.02


@overload
async def eventually(check: Callable[[], Awaitable[T | None]], timeout: float = SECONDS) -> T: ...


@overload
async def eventually(check: Callable[[], T | None], timeout: float = SECONDS) -> T: ...


async def eventually(check: Callable[[], Any], timeout: float = SECONDS) -> Any:
    """The first true answer of `check`. Raises AssertionError with the last answer when there is none in time."""
    answer: Any = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                found = check()
                answer = await found if isinstance(found, Awaitable) else found
                if answer:
                    return answer
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        raise AssertionError(f"not so within {timeout:.0f} s; last answer: {answer!r}") from None
