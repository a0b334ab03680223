"""What is refused before the API server is asked to write anything: a code of the protocol and a sentence that helps.

Raised where a verdict can't be returned; a socket answers it with an error, HTTP with a problem (api/problems.py).
"""

from belay_api.messages import ErrorCode
from belay_gateway.verdicts import Refusal


class Refused(Exception):
    """Nothing changed; `message` says what was wrong, with what, and what to do."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def refusal(self) -> Refusal:
        """The same as a verdict."""
        return Refusal(self.code, self.message)
