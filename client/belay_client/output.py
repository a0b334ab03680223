"""What a command prints: its result, its progress, and the end of its errors. Pure: bytes in, values out."""

import re

from belay_api.delegation import MAX_TEXT_BYTES, Progress
from belay_client.work import MAX_PROGRESS_MESSAGE

PROGRESS_PREFIX = b"::progress "
TAIL_CHARACTERS = 2000

_PROGRESS = re.compile(rb"::progress (\d{1,3})(?: (.*))?\r?")
_MAX_PROGRESS_LINE = len(PROGRESS_PREFIX) + 8 + 4 * MAX_PROGRESS_MESSAGE


class Output:
    """Standard output: lines `::progress 40 text` are progress, everything else is the result.

    Keeps at most what a result may hold, and looks at a line only as long as it may be progress: a command can print
    without end, and lines of any length, without filling the memory.
    """

    def __init__(self) -> None:
        self.too_large = False
        self._result = bytearray()
        self._line = bytearray()
        """The line so far, while it may still become progress."""
        self._plain = False
        """Whether the line so far was found to be no progress."""

    def feed(self, data: bytes) -> list[Progress]:
        """Take what was printed; returns the progress it told of."""
        *lines, rest = data.split(b"\n")
        told = [progress for line in lines if (progress := self._end_line(line)) is not None]
        self._add(rest)
        return told

    def text(self) -> str:
        """The result without its last newline; what isn't UTF-8 is replaced."""
        whole = bytes(self._result + self._line).removesuffix(b"\n").removesuffix(b"\r")
        return whole.decode(errors="replace")

    def _end_line(self, line: bytes) -> Progress | None:
        self._add(line)
        whole, plain = bytes(self._line), self._plain
        self._line.clear()
        self._plain = False
        progress = None if plain else parse_progress(whole)
        if progress is None:
            self._keep(whole + b"\n")
        return progress

    def _add(self, part: bytes) -> None:
        if self._plain:
            self._keep(part)
            return
        self._line += part
        start = bytes(self._line[: len(PROGRESS_PREFIX)])
        if not PROGRESS_PREFIX.startswith(start) or len(self._line) > _MAX_PROGRESS_LINE:
            self._plain = True
            self._keep(bytes(self._line))
            self._line.clear()

    def _keep(self, part: bytes) -> None:
        self._result += part
        if len(self._result) > MAX_TEXT_BYTES + 2:  # the last newline, of one or two bytes, is not part of it
            self.too_large = True
            del self._result[MAX_TEXT_BYTES + 2 :]


class Tail:
    """The end of standard error."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what was printed."""
        self._bytes += data
        del self._bytes[: -4 * TAIL_CHARACTERS]

    def text(self) -> str:
        """The last 2000 characters; what isn't UTF-8 is replaced."""
        return self._bytes.decode(errors="replace").strip()[-TAIL_CHARACTERS:]


def parse_progress(line: bytes) -> Progress | None:
    """Progress, or None when the line is not of the form `::progress PERCENT [TEXT]`."""
    match = _PROGRESS.fullmatch(line)
    if match is None or int(match[1]) > 100:
        return None
    text = (match[2] or b"").decode(errors="replace").strip()[:MAX_PROGRESS_MESSAGE]
    return Progress(percent=int(match[1]), message=text or None)
