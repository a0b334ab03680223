"""The bus on NATS. A server that is down costs broadcasts and nothing else; the way back is found without help."""

import asyncio
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from belay_gateway.bucket import Bucket
from belay_gateway.bus import BusDown, Receive
from belay_gateway.settings import PREFIX, Settings
from belay_kube.clock import Clock

log = structlog.get_logger(__name__)

_AGAIN_SECONDS = 1.0
_PUBLISH_SECONDS = 2.0
_PING_SECONDS = 10
"""A server that is silent for two of these is taken for dead."""
_COMPLAINTS = (1 / 60, 3.0)
"""Lines a second in the log, and at once, about a bus that stays away."""
_WAITING_MESSAGES, _WAITING_BYTES = 4096, 64 * 1024 * 1024


class NatsBus:
    """One connection to NATS, for all that this process publishes and hears."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._url = str(settings.bus_url)
        self._token_file = settings.bus_token_file
        self._identity = settings.identity
        self._prefix = f"{settings.bus_subject}."
        self._clock = clock
        self._receive: Receive = lambda _subject, _data: None
        self._client: Client | None = None
        self._problem: str | None = "not connected yet"
        self._complaints = Bucket(clock, *_COMPLAINTS)

    def subscribe(self, receive: Receive) -> None:
        """Say who gets what the others publish."""
        self._receive = receive

    def state(self) -> str | None:
        """What is wrong, in a sentence; None while it is connected."""
        if self._client and self._client.is_connected and self._problem is None:
            return None
        sentence = f"the bus, NATS at {self._shown}, is not connected ({self._problem or 'broken off'})"
        return f"{sentence}: broadcasts are refused meanwhile"

    @property
    def _shown(self) -> str:
        """The addresses without the passwords they may hold."""
        return ",".join(part.strip().rpartition("@")[2].rpartition("://")[2] for part in self._url.split(","))

    async def publish(self, subject: str, data: bytes) -> None:
        """Return once the server has it. Raises BusDown."""
        client = self._client
        if client is None or self.state():
            # The library would keep it and send it when nobody expects it any more.
            raise BusDown(self._sentence(self._problem or "broken off"))
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS):
                await client.publish(self._prefix + subject, data)
                await client.flush()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            # The library may have sent it, or still does when it is connected again.
            raise BusDown(self._in_doubt(_words(error))) from None

    def _in_doubt(self, problem: str) -> str:
        sentence = f"the bus, NATS at {self._shown}, didn't confirm it ({problem})"
        return f"{sentence}: other gateways may have been told; send it again if hearing it twice does no harm"

    def _sentence(self, problem: str) -> str:
        sentence = f"the bus, NATS at {self._shown}, can't be reached ({problem}), so other gateways can't be told"
        return f"{sentence}: nobody was told; start it or mend {PREFIX}BUS_URL, then send it again"

    async def run(self) -> None:
        """Stay connected until cancelled; a connection that the library gives up is made anew."""
        while True:
            closed = asyncio.Event()
            self._client = client = Client()
            try:
                await self._connect(client, closed)
                await closed.wait()
            except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
                self._lost(_words(error))
            except Exception as error:
                # What a server says must not end the process: everything else goes on without a bus.
                log.exception("the bus failed, connecting again")
                self._lost(_words(error))
            finally:
                self._client = None
                await self._close(client)
            await self._clock.sleep(_AGAIN_SECONDS)

    async def _close(self, client: Client) -> None:
        try:
            await client.close()
        except Exception:
            log.exception("a connection of the bus was not closed properly")

    async def _connect(self, client: Client, closed: asyncio.Event) -> None:
        async def failed(error: Exception) -> None:
            if not client.is_connected:
                self._lost(_words(error))
            elif self._complaints.take():
                log.warning("the bus complains", server=self._shown, error=_words(error))

        async def disconnected() -> None:
            if self._client is client:
                self._lost("the connection broke off")

        async def reconnected() -> None:
            self._found()

        async def ended() -> None:
            closed.set()

        await client.connect(
            [part.strip() for part in self._url.split(",")],
            name=self._identity,
            error_cb=failed,
            disconnected_cb=disconnected,
            reconnected_cb=reconnected,
            closed_cb=ended,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=_PING_SECONDS,
            no_echo=True,
            **self._credentials(),
        )
        await client.subscribe(
            f"{self._prefix}>",
            cb=self._heard,
            pending_msgs_limit=_WAITING_MESSAGES,
            pending_bytes_limit=_WAITING_BYTES,
        )
        await client.flush()
        self._found()

    def _credentials(self) -> dict[str, Any]:
        """The token's file is read at each connect, so that a new token needs no restart."""
        path = self._token_file
        return {"token": lambda: path.read_text().strip()} if path else {}

    async def _heard(self, message: Msg) -> None:
        try:
            self._receive(message.subject.removeprefix(self._prefix), message.data)
        except Exception:
            # One message must not end the subscription to all others.
            log.exception("a message of the bus was not handled")

    def _found(self) -> None:
        self._problem = None
        log.info("the bus is connected", server=self._shown)

    def _lost(self, problem: str) -> None:
        if self._problem is None:
            log.warning("the bus is lost, broadcasts are refused until it is back", server=self._shown, error=problem)
        elif self._problem != problem and self._complaints.take():
            log.warning("the bus can't be reached, trying again", server=self._shown, error=problem)
        self._problem = problem


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:200]
