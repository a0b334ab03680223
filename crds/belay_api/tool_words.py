"""Sentences about tool calls of Model agents: what a model is told of them, and why a child was ended (L14, L15)."""

from collections.abc import Iterable


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def tool_unknown(tool: str, offered: Iterable[str]) -> str:
    """The model called something that it wasn't given."""
    return f"there is no tool {tool}; your tools are: {_listed(offered)}"


def tool_denied(tool: str) -> str:
    """Agent.spec.tools says Deny."""
    return f"you may not use the tool {tool}: the permission of your Agent is Deny"


def arguments_unreadable(tool: str, why: str) -> str:
    """The arguments are no JSON object."""
    return f"the arguments of {tool} are not a JSON object: {why}; call it again with one"


def arguments_wrong(tool: str, problems: str) -> str:
    """The arguments are JSON, but not what the tool takes."""
    return f"the arguments of {tool} were refused: {problems}"


def tool_failed(tool: str, error: str) -> str:
    """The tool broke."""
    return f"the tool {tool} failed: {error}"


def call_forgotten() -> str:
    """The turn that made the call was deleted."""
    return "what it was called with is no longer known"


def tool_interrupted(tool: str) -> str:
    """Whoever ran it died, and it isn't known how far it came."""
    return f"interrupted: the process that ran {tool} ended; it may or may not have had its effect"


def use_denied(tool: str, decided_by: str | None, why: str | None) -> str:
    """Somebody decided that it may not be used."""
    return f"{decided_by or 'somebody'} denied the use of {tool}" + (f": {why}" if why else "")


def use_not_decided(tool: str, why: str | None) -> str:
    """Nobody decided whether it may be used."""
    return f"the use of {tool} was not allowed" + (f": {why}" if why else "")


def use_request_deleted(tool: str, request: str) -> str:
    """What was to be decided is gone."""
    return f"the use of {tool} was not allowed: PermissionRequest {request} was deleted"


def asks_to_use(tool: str, session: str) -> str:
    """What a person reads who is to decide."""
    return f"The model of AgentSession {session} wants to use the tool {tool}."


def preview_cut(missing: int, turn: str) -> str:
    """What stands behind arguments of which a person sees only the beginning."""
    return f"\n[{missing} more characters: read them all before you decide, kubectl get sessionturn {turn} -o yaml]"


def delegate_offer(agents: Iterable[tuple[str, str | None]]) -> str:
    """What a model is told of `delegate`: each agent, and what it is good for."""
    offer = (
        "Hand a task to another agent and wait for its end. The response is its result, or why there is none. "
        "The other agent knows nothing but the prompt and the inputs. The agents are:"
    )
    lines = [f"- {name}: {' '.join(what.split())}" if what else f"- {name}" for name, what in agents]
    return "\n".join([offer, *lines])


def reply_offer() -> str:
    """What a model is told of `reply`."""
    return (
        "Deliver a structured result to whoever delegated this task, which completes it. Needed only for data, or for "
        "the address of a result: an answer in plain text is delivered by itself."
    )


def not_in_allow_list(agent: str, allowed: Iterable[str]) -> str:
    """Agent.spec.tools names whom it may delegate to."""
    return f"you may not delegate to {agent}; you may to: {_listed(allowed)}"


def no_agents_to_delegate_to() -> str:
    """Agent.spec.tools has no entry `delegate`."""
    return "you may not delegate: your Agent names nobody to delegate to"


def delegation_refused(agent: str, said: str) -> str:
    """The API server refused it."""
    return f"the delegation to {agent} was refused: {said}"


def delegation_was_deleted(name: str) -> str:
    """Whatever became of it, nobody knows."""
    return f"delegation {name} was deleted before its end was known"


def delegation_failed(name: str, phase: str, reason: str | None, message: str | None) -> str:
    """It ended, and not well."""
    return f"delegation {name} is {phase}" + (f" ({reason})" if reason else "") + (f": {message}" if message else "")


def delegation_without_result(name: str) -> str:
    """It was completed, and nothing was said."""
    return f"delegation {name} is Completed, without a result"


def result_uri(uri: str) -> str:
    """Where a result is."""
    return f"The result is at {uri}"


def call_timed_out(session: str, seconds: int) -> str:
    """L15: why a child was cancelled."""
    return f"the tool call of AgentSession {session} that waited for it timed out after {seconds} seconds"


def call_interrupted(session: str) -> str:
    """L17: why a child was cancelled."""
    return f"AgentSession {session}, which waited for it, was interrupted"


def nobody_to_reply_to() -> str:
    """`reply` where no delegation is served."""
    return "there is nobody to reply to: this conversation works on no delegation; answer in plain text"


def reply_empty() -> str:
    """`reply` without anything in it."""
    return "give text, data or uri"


def reply_too_long(size: int, most: int) -> str:
    """More than a Delegation's status can hold."""
    return f"the reply is {size} bytes, at most {most} are taken: say less, or give a uri"


def replied(names: Iterable[str]) -> str:
    """`reply` did its work."""
    return f"delivered: {_listed(names)} is Completed with it"


def replied_already(names: Iterable[str]) -> str:
    """A second `reply`."""
    return f"a result was delivered already: {_listed(names)} is Completed; this one was not taken"


def reply_too_late(name: str, phase: str) -> str:
    """What was to be replied to has ended otherwise, or was taken away."""
    return f"not delivered: delegation {name} is {phase}"
