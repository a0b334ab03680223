"""Who is there, aged by when *we* saw a renewal; and since when we can see at all (DESIGN.md section 4).

A row is alive while its gateway and it itself were seen to move in time. Blind time (no contact with the API server, a
start, no gateway heard) ends with every observation beginning anew, so that nothing is lost because we did not look.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from belay_api.agentsubscription import SubscriptionPhase
from belay_api.names import Ref
from belay_api.timing import Times
from belay_kube.clock import Clock
from belay_operator.observe.fleet import BRAKE_SECONDS, Fleet
from belay_operator.observe.presence_records import GatewayLease, Row

_HICCUP_SECONDS = 5.0
"""A loss of contact shorter than this, made good without a new list, is no blind time."""
_GAP_SECONDS = 8.0
"""A time without any gateway's renewal (5 s apart) that is worth remembering."""
_GAPS = 32


@dataclass(slots=True)
class _Seen:
    mark: str | None
    at: float
    """Monotonic seconds when the mark was first seen."""


class Presence:
    """Observations of rows and gateways; reads the clock, decides nothing about work."""

    def __init__(self, clock: Clock, stale_after: float, brake_seconds: float = BRAKE_SECONDS) -> None:
        self._clock = clock
        self.fleet = Fleet(clock, brake_seconds)
        self._stale_after = stale_after
        self._rows: dict[Ref, _Seen] = {}
        self._gateways: dict[str, _Seen] = {}
        self._leases: dict[str, GatewayLease] = {}
        self._missing: dict[Ref, dict[str, datetime]] = {}
        self._dead: dict[Ref, datetime] = {}
        self._no_contact: set[str] = {"start"}
        self._no_contact_since = float("-inf")
        self._any_lease_at: float | None = None
        self._sighted = clock.now()
        self.changes = 0
        """Counts what was seen."""
        self._gaps: deque[tuple[float, datetime]] = deque(maxlen=_GAPS)
        """Times without any gateway that ended: how long, and when it ended."""

    # --- blind time ---

    def contact_lost(self, cause: str) -> None:
        """From now on nothing seen can be trusted to be current; `cause` names the reader."""
        self.changes += 1
        if not self._no_contact:
            self._no_contact_since = self._clock.monotonic()
        self._no_contact.add(cause)

    def contact(self, cause: str) -> bool:
        """`cause` can see again; True when that ended a blind time."""
        self.changes += 1
        was_blind = bool(self._no_contact)
        self._no_contact.discard(cause)
        if not was_blind or self._no_contact:
            return False
        # A watch that broke and went on at once missed nothing: it is told all that happened meanwhile.
        if self._clock.monotonic() - self._no_contact_since >= _HICCUP_SECONDS:
            self._begin_anew()
        return True

    def in_contact(self) -> bool:
        """Whether every watch is heard."""
        return not self._no_contact

    def blind(self, stale_after: float | None = None) -> bool:
        """Whether nothing that is missing may be taken for gone: no contact, or no gateway heard for `stale_after`
        (an agent's own, if that is less than the installation's)."""
        limit = min(self._stale_after, stale_after or self._stale_after)
        return bool(self._no_contact) or self._without_gateway() >= limit

    def sighted_since(self, stale_after: float | None = None) -> datetime:
        """When the last blind time ended (or the start), as blindness is for `stale_after`."""
        limit = min(self._stale_after, stale_after or self._stale_after)
        return max([self._sighted, *(ended for length, ended in self._gaps if length >= limit)])

    def _without_gateway(self) -> float:
        """Seconds since any gateway's Lease was seen to move."""
        return self._clock.monotonic() - self._any_lease_at if self._any_lease_at is not None else float("inf")

    def _begin_anew(self) -> None:
        now = self._clock.monotonic()
        self._sighted = self._clock.now()
        for seen in (*self._rows.values(), *self._gateways.values()):
            seen.at = now

    # --- what was seen ---

    def lease_seen(self, lease: GatewayLease) -> bool:
        """A gateway's Lease, as it is now; True when that ended a blind time."""
        self.changes += 1
        is_leftover = lease.identity not in self._leases and bool(self._no_contact)
        self._leases[lease.identity] = lease
        if lease.released or not self._moved(self._gateways, lease.identity, lease.renewed) or is_leftover:
            # What a first list shows may have been dead for long: only what moves before our eyes is a sign of life.
            return False
        gap = self._without_gateway()
        self._any_lease_at = self._clock.monotonic()
        if gap < _GAP_SECONDS or self._no_contact:
            return False
        self._gaps.append((gap, self._clock.now()))
        if gap >= self._stale_after:
            self._begin_anew()
        return True

    def lease_gone(self, identity: str) -> None:
        """A gateway's Lease was deleted."""
        self.changes += 1
        self._leases.pop(identity, None)
        self._gateways.pop(identity, None)

    def row_seen(self, row: Row) -> None:
        """A row, as it is now; its move is also a sign of life of its gateway."""
        self.changes += 1
        if row.phase is SubscriptionPhase.LIVE:
            self._missing.get(row.agent, {}).pop(row.session, None)
            self._dead.pop(row.ref, None)
        elif row.ref not in self._dead:
            # Another machine wrote disconnectedTime: it counts for what was dead before we looked, and never ahead.
            first_sight = row.ref not in self._rows
            now = self._clock.now()
            self._dead[row.ref] = min(row.disconnected or now, now) if first_sight else now
        if self._moved(self._rows, row.ref, f"{row.token} {row.renewed}") and row.holder:
            self._gateways.setdefault(row.holder, _Seen(None, 0.0)).at = self._clock.monotonic()

    def row_gone(self, row: Row) -> None:
        """A row was deleted: its session is missing from now on."""
        self.changes += 1
        self._rows.pop(row.ref, None)
        self._dead.pop(row.ref, None)
        self.note_missing(row.agent, row.session)

    def note_missing(self, agent: Ref, session: str) -> None:
        """A session that work needs has no row: it is missing from now on, unless it is known to be already."""
        self.changes += 1
        self._missing.setdefault(agent, {}).setdefault(session, self._clock.now())

    def _moved(self, table: dict[Any, _Seen], key: Any, mark: str | None) -> bool:
        seen = table.get(key)
        if seen and seen.mark == mark:
            return False
        table[key] = _Seen(mark, self._clock.monotonic())
        return True

    # --- what follows ---

    def released(self, identity: str | None) -> bool:
        """Whether the gateway said that it ends on purpose."""
        lease = self._leases.get(identity or "")
        return lease is not None and lease.released

    def dead_since(self, row: Row) -> datetime:
        """Since when a row that isn't Live was seen not to be."""
        return self._dead.get(row.ref) or self._clock.now()

    def leases(self) -> Iterable[GatewayLease]:
        """Every gateway Lease there is."""
        return list(self._leases.values())

    def lease_age(self, identity: str) -> float:
        """Seconds since the gateway was seen to move."""
        seen = self._gateways.get(identity)
        return self._clock.monotonic() - seen.at if seen else 0.0

    def stale_in(self, row: Row, times: Times) -> float:
        """Seconds until a Live row is stale; zero or less: it is (P3)."""
        now = self._clock.monotonic()
        lease = self._leases.get(row.holder or "")
        own_limit = max(times.stale_after, 3 * lease.touch_seconds if lease else 0)
        gateway = self._gateways.get(row.holder or "")
        own = self._rows.get(row.ref)
        own_left = own_limit - (now - own.at) if own else float(own_limit)
        gateway_left = times.stale_after - (now - gateway.at) if gateway else float(times.stale_after)
        return min(own_left, gateway_left)

    def missing(self, agent: Ref) -> dict[str, datetime]:
        """Sessions of an agent that have no row, and since when."""
        return self._missing.get(agent, {})

    def forget_missing(self, agent: Ref, keep: set[str]) -> None:
        """Drop what is remembered of an agent's sessions but for `keep`, so that memory stays bounded."""
        kept = {s: at for s, at in self._missing.pop(agent, {}).items() if s in keep}
        if kept:
            self._missing[agent] = kept
