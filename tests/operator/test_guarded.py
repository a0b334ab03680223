"""drain/guarded.py: no part of a look stands in the way of the others (S7)."""

import pytest

from belay_kube.errors import Forbidden, Unreachable
from belay_operator.drain.guarded import Guarded


async def fails(error: Exception) -> int:
    """A part that does."""
    raise error


async def works() -> int:
    """A part that does."""
    return 1


async def test_S7_all_parts_are_tried_and_the_first_error_is_raised() -> None:
    """It decides when all is tried again."""
    parts = Guarded()
    assert await parts.run(fails(Unreachable("first")), 0) == 0
    assert await parts.run(works(), 0) == 1
    assert await parts.run(fails(Forbidden("second", 403)), 0) == 0
    with pytest.raises(Unreachable, match="first"):
        parts.done()


async def test_S7_nothing_is_raised_where_nothing_failed() -> None:
    """The look is over."""
    parts = Guarded()
    assert await parts.run(works(), 0) == 1
    parts.done()
