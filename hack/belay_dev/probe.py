"""Asks whether a server on loopback is ready, verifying who answers."""

import http.client
import ssl
from pathlib import Path

from belay_dev.layout import LOOPBACK

TIMEOUT_SECONDS = 2.0


class Probe:
    """Asks one port for its health; the answer counts only under a certificate of our CA."""

    def __init__(self, port: int, ca: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=ca)

    def ready(self, path: str) -> bool:
        """Whether the path answers 200 right now."""
        connection = http.client.HTTPSConnection(LOOPBACK, self._port, timeout=TIMEOUT_SECONDS, context=self._context)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
