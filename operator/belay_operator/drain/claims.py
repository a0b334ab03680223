"""The claim under which a mailbox is drained: taken by compare-and-set, renewed while held, given back with the result.

It elects, it does not fence: what fences is the name of the turn (DESIGN.md section 5). So a claim that was lost ends
the round early, and one whose loss isn't noticed does no harm (L18).
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from belay_api.agentsession import SessionPhase
from belay_api.times import to_wire
from belay_kube.client import Json
from belay_kube.clock import Clock
from belay_kube.errors import Conflict, KubeError
from belay_operator.drain.configuration import Signature
from belay_operator.drain.store import Store
from belay_operator.observe.mailbox_records import SessionRecord
from belay_operator.observe.mailboxes import Mailboxes

log = structlog.get_logger(__name__)

CLAIM_SECONDS = 30
"""Without a renewal for so long, by the observer's clock, a claim may be taken over."""
_RENEW_SECONDS = 10.0
_PROGRESS_SECONDS = 5.0
"""Least between two writes of the text as it grows (DESIGN.md section 5)."""
_SHOWN_CHARS = 1024
_TRIES = 5


class Claim:
    """A claim that is held, and the session as it was last written."""

    def __init__(self, before: SessionRecord, token: str) -> None:
        self.before = before
        """The session as it was when it was claimed."""
        self.session = before
        """The session as it was last written, or seen."""
        self.conditions: list[Json] = []
        """Its conditions, whole."""
        self.token = token
        self.rests_on: Signature = ()
        """What the configuration rested on with which the model was asked."""
        self.lost = asyncio.Event()
        self.is_settling = False
        """Whether the transaction was tried: from then on the session isn't given back as it was."""
        self._said = ""
        self.progress_told = ""

    def saw(self, obj: Json) -> SessionRecord:
        """The session, as it is now."""
        self.session = SessionRecord.read(obj)
        self.conditions = list((obj.get("status") or {}).get("conditions") or [])
        return self.session

    def hear(self, text: str) -> None:
        """A piece of the answer."""
        self._said = (self._said + text)[-_SHOWN_CHARS:]

    def note(self, text: str) -> None:
        """What is going on instead of an answer, e.g. a wait for a retry."""
        self._said = text[:_SHOWN_CHARS]

    @property
    def progress(self) -> str:
        """The end of the answer so far."""
        return self._said


class Claims:
    """Takes, renews and gives back claims in the name of one process."""

    def __init__(self, store: Store, mailboxes: Mailboxes, clock: Clock, identity: str) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self.identity = identity

    async def take(self, session: SessionRecord) -> Claim | None:
        """Claim a session as it was seen; None: somebody wrote first, which brings it up again (L3).

        Raises KubeError.
        """
        token = secrets.token_hex(8)
        held = {
            "holderIdentity": self.identity,
            "token": token,
            "renewTime": to_wire(self._clock.now()),
            "durationSeconds": CLAIM_SECONDS,
        }
        status = {
            "phase": str(SessionPhase.AWAITING),
            "claim": held,
            "observedGeneration": session.generation,
        }
        try:
            written = await self._store.write_session(session.ref, session.version, status)
        except Conflict:
            await self._look_again(session)
            return None
        if written is None:
            self._mailboxes.drop_session(session.ref)
            return None
        claim = Claim(session, token)
        self._mailboxes.put_session(claim.saw(written))
        return claim

    @asynccontextmanager
    async def kept(self, claim: Claim) -> AsyncIterator[None]:
        """Renew a claim within; `claim.lost` is set when it is somebody else's, or the session is gone."""
        task = asyncio.get_running_loop().create_task(self._renew(claim), name=f"claim of {claim.session.ref}")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def refresh(self, claim: Claim) -> None:
        """Take the session as it was seen since, if the claim is still ours: people may ask for its interruption."""
        seen = self._mailboxes.sessions.get(claim.session.ref)
        if seen and seen.claim and seen.claim.token == claim.token:
            claim.session = seen

    async def is_held(self, claim: Claim) -> bool:
        """Whether a claim is ours still, by a live read. Raises KubeError."""
        found = await self._store.session(claim.session.ref)
        if not self._is_ours(claim, found):
            claim.lost.set()
        elif found:
            self._mailboxes.put_session(claim.saw(found))
        return not claim.lost.is_set()

    async def release(self, claim: Claim, status: Json) -> SessionRecord | None:
        """Give a session back as `status` says; None when the claim is lost. Raises KubeError."""
        return await self._write(claim, {**status, "claim": None, "progress": None})

    async def _renew(self, claim: Claim) -> None:
        renewed = self._clock.monotonic()
        while not claim.lost.is_set():
            await self._clock.sleep(_PROGRESS_SECONDS)
            is_news = claim.progress != claim.progress_told
            if not is_news and self._clock.monotonic() < renewed + _RENEW_SECONDS:
                continue
            status: Json = {"claim": {"renewTime": to_wire(self._clock.now())}}
            if is_news:
                status["progress"] = claim.progress_told = claim.progress
            try:
                if await self._write(claim, status) is None:
                    claim.lost.set()
                renewed = self._clock.monotonic()
            except KubeError as error:
                # Not to be heard is no loss yet: nobody may take it over before its time.
                log.warning("claim not renewed, will try again", session=str(claim.session.ref), error=error.message)

    async def _write(self, claim: Claim, status: Json) -> SessionRecord | None:
        """Write while the claim is ours; people may have written the specification in between."""
        for again in reversed(range(_TRIES)):
            try:
                written = await self._store.write_session(claim.session.ref, claim.session.version, status)
            except Conflict:
                if not again:
                    raise
                written = await self._store.session(claim.session.ref)
                if not self._is_ours(claim, written):
                    return None
                if written:
                    self._mailboxes.put_session(claim.saw(written))
                continue
            if written is None:
                self._mailboxes.drop_session(claim.session.ref)
                return None
            self._mailboxes.put_session(claim.saw(written))
            return claim.session
        return None

    def _is_ours(self, claim: Claim, found: Json | None) -> bool:
        if found is None:
            self._mailboxes.drop_session(claim.session.ref)
            return False
        held = (found.get("status") or {}).get("claim") or {}
        return bool(held.get("token") == claim.token)

    async def _look_again(self, session: SessionRecord) -> None:
        found = await self._store.session(session.ref)
        if found is None:
            self._mailboxes.drop_session(session.ref)
        else:
            self._mailboxes.put_session(SessionRecord.read(found))
