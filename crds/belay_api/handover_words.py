"""Sentences of delegations that Model agents work on, for people and for models; their reasons: reasons.py."""


def inputs_left_out(left_out: int, number: int) -> str:
    """What a model is told of inputs that don't fit beside the prompt."""
    return (
        f"[cut by Belay: {left_out} of {number} inputs are left out, prompt and inputs are more than 64 KiB together]"
    )


def answer_cut(size: int, turn: str, namespace: str) -> str:
    """What stands behind a result of which only the beginning was kept."""
    where = f"kubectl get sessionturn {turn} -n {namespace} -o yaml"
    return f"\n[cut by Belay: the whole answer, {size} bytes, is in: {where}]"


def incomplete(stop: str) -> str:
    """What follows the word of an answer that ended too early."""
    return f"; the answer is incomplete: {stop}"


def refused_in(session: str, said: str) -> str:
    """The model will not do it."""
    return f"the model refused in AgentSession {session}" + (f": {said}" if said else "")


def came_to_nothing(session: str) -> str:
    """No answer, and no word why."""
    return f"AgentSession {session} gave no answer"


def told_to(session: str) -> str:
    """Proof of a cancel, first half."""
    return f"told to AgentSession {session}"


def stopped_in(session: str) -> str:
    """Proof of a cancel, second half."""
    return f"AgentSession {session} works on it no more"


def beats_again(session: str) -> str:
    """It was Stuck."""
    return f"AgentSession {session} works on it again"


def prompt_is_gone(session: str) -> str:
    """Nobody will ever answer it."""
    return f"its prompt is in AgentSession {session} no more: it, or an earlier session of that name, was deleted"
