"""What a command prints, told apart: result, progress, errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belay_client.output import Output, Tail, parse_progress


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"::progress 40 reading", (40, "reading")),
        (b"::progress 0", (0, None)),
        (b"::progress 100 done\r", (100, "done")),
        (b"::progress 7 \xff", (7, "�")),
        (b"::progress 5 " + b"x" * 2000, (5, "x" * 1024)),
    ],
)
def test_progress_lines(line: bytes, told: tuple[int, str | None]) -> None:
    """A percentage and perhaps a text, cut at what a resource may hold."""
    progress = parse_progress(line)
    assert progress is not None
    assert (progress.percent, progress.message) == told


@pytest.mark.parametrize(
    "line",
    [
        b"::progress",
        b"::progress 101 x",
        b"::progress -1",
        b"::progress x",
        b" ::progress 1",
        b"::progress 1x",
        b"::progress 1.5",
    ],
)
def test_other_lines_are_part_of_the_result(line: bytes) -> None:
    """Whatever isn't of that form exactly is the command's own business."""
    output = Output()
    assert output.feed(line + b"\n") == []
    assert output.text().encode() == line


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (b"", ""),
        (b"hi\n", "hi"),
        (b"hi\r\n", "hi"),
        (b"hi\n\n", "hi\n"),
        (b"hi", "hi"),
        (b"::progress 1\nhi\n::progress 2 x\nyou\n", "hi\nyou"),
        (b"::progress 9", "::progress 9"),
        (b"caf\xe9\n", "caf�"),
        (b"x" * 65536 + b"\n", "x" * 65536),
    ],
)
def test_result_is_the_rest_without_its_last_newline(printed: bytes, text: str) -> None:
    """Progress is cut out, one newline is dropped, bad bytes are replaced."""
    output = Output()
    output.feed(printed)
    assert (output.text(), output.too_large) == (text, False)


@given(
    st.lists(
        st.sampled_from([b"::progress 40 x", b"::prog", b"ress 1", b"\n", b"a", b"", b"\r", b"::progress 200"]),
        max_size=12,
    )
)
def test_it_does_not_matter_how_the_bytes_arrive(parts: list[bytes]) -> None:
    """In one piece or in many."""
    whole, pieces = Output(), Output()
    at_once = whole.feed(b"".join(parts))
    one_by_one = [progress for part in parts for progress in pieces.feed(part)]
    assert (at_once, whole.text()) == (one_by_one, pieces.text())


def test_memory_is_bounded() -> None:
    """Endless output, and endless lines that begin like progress, are not kept."""
    output = Output()
    for _ in range(100):
        output.feed(b"y" * 65536)
        output.feed(b"\n::progress 4 " + b"z" * 65536)
    assert output.too_large
    assert len(output._result) + len(output._line) <= 65536 + 5000


def test_tail_is_the_last_2000_characters() -> None:
    """Of however much was printed."""
    tail = Tail()
    for number in range(5000):
        tail.feed(f"line {number}\n".encode())
    assert len(tail.text()) == 2000
    assert tail.text().endswith("line 4999")
