"""How a chat words what it shows: short, in one line, and never so that a model steers the terminal. Pure."""

from belay_api.reasons import SessionReason
from belay_client.follow import printable
from belay_kube.client import Json

SHOWN_CHARS = 200
_USUAL_STOPS = frozenset({"end_turn", "tool_use", "stop_sequence", None})
_MESSAGE_CHARS = 1024
_TO_DO: dict[str, str] = {
    SessionReason.AGENT_SUSPENDED: "set spec.suspend of agent {agent} to false",
    SessionReason.AUTHENTICATION_FAILED: "put a valid key into the Secret that spec.model.apiKeySecretRef of agent "
    "{agent} names; it goes on by itself within a minute",
}
"""Where the condition's own words don't say it."""


def short(text: str, most: int = SHOWN_CHARS) -> str:
    """One line of it, without control characters, cut."""
    line = printable(text)
    return line if len(line) <= most else f"{line[:most]}…"


def clean(text: str) -> str:
    """The text with its lines and tabs, without other control characters: a model must not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def more(before: str, now: str) -> str:
    """What the end of a growing text says beyond the end of it that was shown before."""
    for size in range(min(len(before), len(now)), 0, -1):
        if before.endswith(now[:size]):
            return now[size:]
    return now


def turn_line(spec: Json) -> str:
    """E.g. `turn 2: Answered (max_tokens) 812 tokens in, 40 out`."""
    usage: Json = spec.get("usage") or {}
    stop = spec.get("stopReason")
    why = spec.get("reason") or (stop if stop not in _USUAL_STOPS else None)
    parts = [f"turn {spec['sequence']}: {spec['outcome']}"]
    if why:
        parts.append(f"({short(why)})")
    if usage:
        parts.append(f"{usage.get('inputTokens', 0)} tokens in, {usage.get('outputTokens', 0)} out")
    if spec.get("message"):
        parts.append(f"- {short(spec['message'], _MESSAGE_CHARS)}")
    return " ".join(parts)


def why_not(spec: Json) -> str:
    """E.g. `Parked (Rejected): the provider said …`."""
    reason = f" ({spec['reason']})" if spec.get("reason") else ""
    message = f": {spec['message']}" if spec.get("message") else ""
    return short(f"{spec['outcome']}{reason}{message}", 1100)


def condition_line(condition: Json, agent: str) -> str:
    """Why mail waits, and what to do about it."""
    words = f"{condition['type']} ({condition['reason']}): {short(condition.get('message') or '', _MESSAGE_CHARS)}"
    to_do = _TO_DO.get(condition["reason"])
    return f"{words}; to do: {to_do.format(agent=agent)}" if to_do else words
