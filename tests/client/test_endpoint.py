"""The gateway's address and the token, before anything is sent."""

from pathlib import Path

import pytest

from belay_client import UsageError
from belay_client.endpoint import cable_url, read_token


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://gw.example", "https://gw.example/cable"),
        ("wss://gw.example/", "https://gw.example/cable"),
        ("ws://127.0.0.1:8080/cable", "http://127.0.0.1:8080/cable"),
        ("http://[::1]:8080/belay/", "http://[::1]:8080/belay/cable"),
    ],
)
def test_address_may_leave_out_the_path(given: str, used: str) -> None:
    """http and ws mean the same, and a prefix is kept."""
    assert cable_url(given) == used


@pytest.mark.parametrize(
    "given",
    [
        "",
        "gw.example",
        "ftp://gw",
        "http://",
        "http://gw:port",
        "http://gw:99999",
        "http://u:p@gw",
        "http://gw?token=x",
        "http://[::1",
    ],
)
def test_address_that_cannot_be_right(given: str) -> None:
    """Refused with what to write instead, and with no credentials in it."""
    with pytest.raises(UsageError) as caught:
        cable_url(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"a\nb", b"\xff\xfe", "tök".encode(), b"nul\0"])
def test_token_file_that_holds_no_token(tmp_path: Path, content: bytes) -> None:
    """Nothing that isn't a token ever becomes a header; the text of it is not repeated."""
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="token"):
        read_token(file)


def test_token_from_each_source(tmp_path: Path) -> None:
    """A text, a file or a function; space around it doesn't count."""
    file = tmp_path / "token"
    file.write_text("abc\n")
    assert [read_token(t) for t in ("abc", file, lambda: " abc ")] == ["abc"] * 3


def test_token_file_that_is_missing(tmp_path: Path) -> None:
    """Says which file."""
    with pytest.raises(UsageError, match="nowhere"):
        read_token(tmp_path / "nowhere")
