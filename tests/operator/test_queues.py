"""queues.py: a key is in one hand at a time; due times fire in order, the last one set counts, clocks may jump."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belay_kube.clock import FakeClock
from belay_operator.queues import TimeQueue, WorkQueue, after

from .builders import T0, at

# --- WorkQueue ---


async def test_keys_come_first_come_first_served_and_once() -> None:
    """A key that waits already isn't added again."""
    queue: WorkQueue[str] = WorkQueue()
    for key in ("b", "a", "b"):
        queue.add(key)
    assert [await queue.take(), await queue.take()] == ["b", "a"]
    assert len(queue) == 2, "both are in hand"


async def test_a_key_added_while_in_hand_comes_again_after_it_was_given_back() -> None:
    """Nobody else gets it meanwhile, and the news isn't lost."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.take()
    queue.add("a")
    second = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    assert not second.done()
    queue.done("a")
    assert await second == "a"


async def test_idle_means_nothing_waits_and_nothing_is_in_hand() -> None:
    """Idle at first, not while a key waits or is in hand, again afterwards."""
    queue: WorkQueue[str] = WorkQueue()
    await queue.idle()
    queue.add("a")
    idle = asyncio.ensure_future(queue.idle())
    await queue.take()
    await asyncio.sleep(0)
    assert not idle.done()
    queue.done("a")
    await idle


async def test_a_waiting_worker_that_was_cancelled_takes_no_key_along() -> None:
    """The key goes to the next one that waits."""
    queue: WorkQueue[str] = WorkQueue()
    first, second = (asyncio.ensure_future(queue.take()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    queue.add("a")
    assert await second == "a"


async def test_minor_keys_wait_for_all_others_and_few_are_in_hand_at_once() -> None:
    """Ten minor ones and then another: it comes next, and while MOST_MINOR minor ones are in hand no more come."""
    queue: WorkQueue[int] = WorkQueue(is_minor=lambda key: key < 100)
    for key in range(10):
        queue.add(key)
    queue.add(100)
    most = WorkQueue.MOST_MINOR
    assert [await queue.take() for _ in range(1 + most)] == [100, *range(most)]
    blocked = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    assert not blocked.done()
    queue.add(101)
    assert await blocked == 101
    blocked = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    queue.done(0)
    assert await blocked == most


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 4))
def test_no_key_is_ever_in_two_hands_and_none_is_lost(keys: list[int], workers: int) -> None:
    """Whatever is added while several workers work, each key is in one hand, and is worked on after its last adding."""
    asyncio.run(_work_off(keys, workers))


async def _work_off(keys: list[int], workers: int) -> None:
    queue: WorkQueue[int] = WorkQueue(is_minor=lambda key: key > 1)
    in_hand: set[int] = set()
    unseen: set[int] = set()

    async def work() -> None:
        while True:
            key = await queue.take()
            assert key not in in_hand
            in_hand.add(key)
            unseen.discard(key)
            await asyncio.sleep(0)
            in_hand.discard(key)
            queue.done(key)

    running = [asyncio.ensure_future(work()) for _ in range(workers)]
    for key in keys:
        unseen.add(key)
        queue.add(key)
        await asyncio.sleep(0)
    await queue.idle()
    assert not unseen
    for task in running:
        task.cancel()
    ended = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended)


# --- TimeQueue ---


class JumpingClock(FakeClock):
    """A fake clock whose wall time can be set, as an administrator or NTP would."""

    jumped = timedelta()

    def now(self) -> datetime:
        """Wall time with the jump."""
        return super().now() + self.jumped


class Emitted:
    """A running time queue and what it emitted."""

    def __init__(self) -> None:
        self.clock = JumpingClock(T0)
        self.keys: list[str] = []
        self.queue: TimeQueue[str] = TimeQueue(self.clock, self.keys.append)

    async def by(self, seconds: float) -> list[str]:
        """What was emitted once so many seconds have passed."""
        await self.clock.advance(seconds - self.clock.monotonic())
        return self.keys


@asynccontextmanager
async def running() -> AsyncIterator[Emitted]:
    """A time queue that runs."""
    emitted = Emitted()
    task = asyncio.ensure_future(emitted.queue.run())
    await emitted.clock.advance(0)
    yield emitted
    task.cancel()
    await asyncio.wait({task})


async def test_keys_fall_due_in_order_of_time_and_once() -> None:
    """Each at its own time, not before, and not again."""
    async with running() as emitted:
        emitted.queue.set("late", at(20))
        emitted.queue.set("early", at(10))
        assert await emitted.by(9.9) == []
        assert await emitted.by(10) == ["early"]
        assert await emitted.by(20) == ["early", "late"]
        assert await emitted.by(500) == ["early", "late"]
        assert len(emitted.queue) == 0


@pytest.mark.parametrize(("first", "then"), [(10, 30), (30, 10)], ids=["later", "sooner"])
async def test_a_key_that_is_set_again_is_due_at_the_new_time_only(first: float, then: float) -> None:
    """The time it was set to before does not count any more."""
    async with running() as emitted:
        emitted.queue.set("a", at(first))
        emitted.queue.set("a", at(then))
        assert await emitted.by(then - 0.1) == []
        assert await emitted.by(60) == ["a"]


async def test_a_dropped_key_is_not_due() -> None:
    """Nor is one that was never set missed."""
    async with running() as emitted:
        emitted.queue.set("a", at(10))
        emitted.queue.drop("a")
        emitted.queue.drop("never set")
        assert await emitted.by(60) == []


@pytest.mark.parametrize(("asked", "due"), [(30, 10), (5, 5)], ids=["later: ignored", "sooner: taken"])
async def test_sooner_only_moves_a_key_forward(asked: float, due: float) -> None:
    """A key due at 10 stays so when asked for at 30, and moves when asked for at 5."""
    async with running() as emitted:
        emitted.queue.set("a", at(10))
        emitted.queue.sooner("a", at(asked))
        assert await emitted.by(due - 0.1) == []
        assert await emitted.by(due) == ["a"]


async def test_a_key_may_be_set_again_once_it_was_emitted() -> None:
    """As a reminder that sets itself anew."""
    async with running() as emitted:
        emitted.queue.set("a", at(10))
        await emitted.by(10)
        emitted.queue.set("a", at(20))
        assert await emitted.by(20) == ["a", "a"]


async def test_what_is_due_already_is_emitted_at_once() -> None:
    """A time in the past needs no waiting."""
    async with running() as emitted:
        emitted.queue.set("a", at(-10))
        assert await emitted.by(0) == ["a"]


async def test_a_wall_clock_set_forward_is_noticed_within_seconds() -> None:
    """A sleep can't know that the wall clock was set: it is looked at again after 5 s."""
    async with running() as emitted:
        emitted.queue.set("a", at(3600))
        await emitted.by(1)
        emitted.clock.jumped = timedelta(hours=2)
        assert await emitted.by(6) == ["a"]


async def test_a_wall_clock_set_back_holds_things_up_until_it_is_their_time() -> None:
    """Due times are wall times: an hour back is an hour more."""
    async with running() as emitted:
        emitted.queue.set("a", at(10))
        emitted.clock.jumped = timedelta(hours=-1)
        assert await emitted.by(3609) == []
        assert await emitted.by(3610) == ["a"]


async def test_setting_over_and_over_keeps_memory_bounded() -> None:
    """Old times of a key are let go."""
    async with running() as emitted:
        for second in range(10_000):
            emitted.queue.set("a", at(10 + second))
        assert len(emitted.queue._heap) < 100
        assert len(emitted.queue) == 1


def test_after_is_so_many_seconds_later() -> None:
    """The one way to say it."""
    assert after(T0, 2.5) == at(2.5)
