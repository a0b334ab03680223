"""Times on the wire: aware UTC, MicroTime with a fixed width so that text order is time order."""

from datetime import UTC, datetime


def to_wire(at: datetime) -> str:
    """RFC 3339 with microseconds, e.g. `2026-01-02T03:04:05.000006Z` (metav1.MicroTime)."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def to_wire_seconds(at: datetime) -> str:
    """RFC 3339 with whole seconds, e.g. `2026-01-02T03:04:05Z` (metav1.Time)."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_wire(text: str | None) -> datetime | None:
    """Read either form; None stays None. Raises ValueError for anything that isn't RFC 3339."""
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone: write it in UTC, e.g. 2026-01-02T03:04:05Z")
    return at.astimezone(UTC)
