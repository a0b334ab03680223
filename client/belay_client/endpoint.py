"""Where the gateway is and with which token: both checked before anything is sent."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from belay_client.errors import UsageError

PATH = "/cable"
Token = str | Path | Callable[[], str]
"""The token itself, the file that holds it, or a function that knows it; asked again at each connect."""

_EXAMPLE = "write it like https://gateway.example"
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def cable_url(url: str) -> str:
    """The address of the cable on the gateway at `url`, which may leave out the path. Raises UsageError."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  raises when it isn't a number
    except ValueError as error:
        raise UsageError(f"gateway URL {url!r} can't be read ({error}): {_EXAMPLE}") from error
    if parts.scheme not in _SCHEMES or not host:
        raise UsageError(f"gateway URL {url!r} is no http(s):// or ws(s):// address: {_EXAMPLE}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError("the gateway URL may hold no user, query or fragment: the token goes into a file of its own")
    path = parts.path.rstrip("/")
    path = path if path.endswith(PATH) else path + PATH
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path, "", ""))


def read_token(token: Token) -> str:
    """The token as it is now. Raises UsageError when there is none, or when it can't be one."""
    if isinstance(token, Path):
        where, text = f"token file {token}", _read(token)
    else:
        where, text = "the token", token if isinstance(token, str) else token()
    text = text.strip()
    if not text:
        raise UsageError(f"{where} is empty")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(f"{where} holds characters no token has")
    return text


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise UsageError(f"token file {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"token file {path} is not text") from error
