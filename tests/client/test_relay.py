"""Words to a file descriptor that may not be read: writing them never waits."""

import os
from collections.abc import Iterator

import pytest

from belay_client.relay import Relay

MOST = 1000


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends; a test may close the first."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def read_all(reader: int, until: bytes) -> bytes:
    """What comes, up to and with the given end."""
    got = b""
    while not got.endswith(until):
        got += os.read(reader, 65536)
    os.close(reader)
    return got


def test_words_come_in_order(pipe: tuple[int, int]) -> None:
    """As they were written; once flushed they are out."""
    relay = Relay(pipe[1])
    for word in (b"one ", b"two ", b"three"):
        relay.write(word)
    assert relay.flush(seconds=10)
    assert os.read(pipe[0], 100) == b"one two three"
    os.close(pipe[0])


def test_reader_that_pauses_loses_the_oldest(pipe: tuple[int, int]) -> None:
    """Writing returns all the same; the gap is said where it is, and the newest comes."""
    relay = Relay(pipe[1], most=MOST)
    for _ in range(1000):
        relay.write(b"x" * 100 + os.linesep.encode() * 99)  # more than any pipe holds
    relay.write(b"the end")
    assert not relay.flush(seconds=0)
    got = read_all(pipe[0], b"the end")
    assert b"bytes left out: standard error was not read" in got
    assert got.count(b"x" * 100) < 1000


def test_reader_that_is_gone(pipe: tuple[int, int]) -> None:
    """Nobody is there any more: it is dropped, and nothing is raised."""
    relay = Relay(pipe[1])
    os.close(pipe[0])
    relay.write(b"one")
    assert relay.flush(seconds=10)
    relay.write(b"two")
    assert relay.flush(seconds=10)
