"""tenure.py: what a leader writes waits while another may lead."""

import asyncio

import pytest

from belay_kube.clock import FakeClock, SystemClock
from belay_kube.errors import Temporary
from belay_operator.tenure import Tenure


@pytest.fixture
def clock() -> FakeClock:
    """One that stands still."""
    return FakeClock(SystemClock().now())


async def test_G9_after_a_freeze_nothing_is_written_before_the_lease_was_renewed(clock: FakeClock) -> None:
    """It may be renewed still, if nobody took it."""
    tenure = Tenure(clock)
    tenure.renewed(clock.monotonic() + 6)
    await tenure.sure()
    await clock.advance(7)
    write = asyncio.ensure_future(tenure.sure())
    await asyncio.sleep(0)
    assert not write.done()
    tenure.renewed(clock.monotonic() + 6)
    await write


@pytest.mark.parametrize("ends_first", [True, False], ids=["ended before", "ended while it waits"])
async def test_G9_after_a_freeze_nothing_is_written_when_another_leads(clock: FakeClock, ends_first: bool) -> None:
    """Who waits hears that it is in vain, so that the process can end."""
    tenure = Tenure(clock)
    if ends_first:
        tenure.end()
    write = asyncio.ensure_future(tenure.sure())
    await asyncio.sleep(0)
    tenure.end()
    with pytest.raises(Temporary, match="may lead no longer"):
        await write


async def test_what_is_given_back_at_the_end_is_written(clock: FakeClock) -> None:
    """While nobody else may lead; not once another does."""
    tenure = Tenure(clock)
    tenure.renewed(clock.monotonic() + 6)
    tenure.end()
    await tenure.sure()
    tenure.end(taken=True)
    with pytest.raises(Temporary):
        await tenure.sure()
