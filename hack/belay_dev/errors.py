"""What can go wrong here, as one tree:

DevError
├── BinariesError       a tool was not found and could not be made
├── GuardError          the guard process did not start or is gone
└── ControlPlaneError   a process of the control plane failed, or refused what it was asked
"""


class DevError(Exception):
    """Anything that belay_dev reports; its text is one clear sentence, then what the failing process printed."""


class BinariesError(DevError):
    """A tool was not found and could not be made."""


class GuardError(DevError):
    """The guard process did not start or is gone."""


class ControlPlaneError(DevError):
    """A process of the control plane failed, or refused what it was asked."""
