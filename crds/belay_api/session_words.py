"""Sentences of Model agents' sessions, for people and for models (BEHAVIOUR.md, section 3)."""

from collections.abc import Iterable


def not_a_model(agent: str) -> str:
    """Mail for an agent that nobody drains mailboxes for."""
    return f"agent {agent} is not of runtime Model: set spec.runtime and spec.model, or open a session of another agent"


def calls_exhausted(calls: int, most: int) -> str:
    """The cap on what one session may spend."""
    return f"{calls} answers were given and {most} are allowed: raise model.maxCallsPerSession, or open another session"


def claimed(holder: str) -> str:
    """L3."""
    return f"{holder} drains it"


def calls_open(number: int) -> str:
    """L6."""
    return f"{number} tool calls have no response yet"


def not_open(tool_use_id: str) -> str:
    """L15: a response that nothing waits for."""
    return f"no tool call {tool_use_id} is open, or it has its response already"


def interrupted() -> str:
    """L17: what a model is told instead of a tool's response."""
    return "interrupted"


def timed_out(seconds: int) -> str:
    """L15: what a model is told of a tool that took too long."""
    return f"timed out after {seconds} seconds"


def cut(kept: int, size: int) -> str:
    """What stands behind text of which only the beginning was kept, in bytes."""
    return f"\n[cut by Belay: {kept} of {size} bytes are above]"


def blank() -> str:
    """What models are told that nothing was said: they refuse blank text."""
    return "[nothing was said]"


def mail_first() -> str:
    """What opens a conversation that would otherwise begin with the model's own side."""
    return "[Belay: mail from others came first.]"


def calls_left_out(number: int, most: int) -> str:
    """L14: more calls in one answer than are run."""
    return f"[Belay: {number} tool calls were left out, at most {most} of one answer are run]"


def gives_up(rounds: int, said: str) -> str:
    """L10: the same round came to nothing again and again."""
    return f"{rounds} rounds failed; the last: {said}"


def messages_from(sender: str) -> str:
    """What a model is told of the tool under whose name messages of a sender come (L7)."""
    return f"Messages from {sender} arrive as results of this tool; it can't be called."


def waits_for_model(said: str, attempt: int, most: int, seconds: float) -> str:
    """L12: what happened, and when it is tried again."""
    return f"[attempt {attempt} of {most} in {seconds:.0f}s: {said}]"


def interrupted_by_request() -> str:
    """L17: spec.interruptRequest."""
    return "spec.interruptRequest asked for the end of the round"


def interrupted_by_ends(names: Iterable[str]) -> str:
    """L17: nobody waits for the answer any more."""
    return f"what it was for has ended: {', '.join(sorted(names))}"


def provider_unknown(provider: str, known: Iterable[str]) -> str:
    """Agent.spec.model.provider is a word of ours."""
    return f"spec.model.provider {provider!r} is not known: write one of {', '.join(sorted(known))}"


def key_missing(namespace: str, secret: str, key: str) -> str:
    """L11: there is no key to show."""
    return f"Secret {secret} in namespace {namespace} has no text under {key!r}: create it, or name another"


def key_not_granted(namespace: str, secret: str) -> str:
    """L11: the operator reads only Secrets that it was granted by name."""
    return (
        f"the operator may not get Secret {secret}: kubectl create role belay-{secret} --verb=get "
        f"--resource=secrets --resource-name={secret} -n {namespace}, and bind it to the operator's ServiceAccount"
    )


def config_map_missing(namespace: str, name: str, key: str) -> str:
    """The system prompt can't be read."""
    return (
        f"ConfigMap {name} in namespace {namespace} has no {key!r}, or the operator may not get it: create it, and "
        "grant `get` on it to the operator's ServiceAccount by name"
    )


def mail_flows() -> str:
    """Nothing holds the mailbox up any more."""
    return "the model answers"


def turn_left_over(turn: str) -> str:
    """The place of an answer is taken."""
    return f"SessionTurn {turn} is left over from an earlier session of that name: delete it"


def not_stored(said: str) -> str:
    """There is an answer, and the API server doesn't take it."""
    return f"the answer can't be stored: {said}"


def unexpected(said: str) -> str:
    """Something nobody foresaw; the operator's log has more."""
    return f"asking the model failed unexpectedly, see the operator's log: {said}"
