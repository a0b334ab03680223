"""Names that every object, role and selector of Belay shares; no such string stands elsewhere."""

from typing import Final

GROUP: Final = "belay.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "belay"

LABEL_AGENT: Final = f"{GROUP}/agent"
LABEL_COMPONENT: Final = f"{GROUP}/component"
ANNOTATION_TOUCH_SECONDS: Final = f"{GROUP}/touch-seconds"
"""On a gateway's Lease: seconds between two renewals of one of its rows (DESIGN.md section 4)."""

LABEL_IDEMPOTENCY: Final = f"{GROUP}/idempotency"
"""The hash of namespace, caller and idempotency key, on what was made under that key (D5)."""
ANNOTATION_REQUEST_HASH: Final = f"{GROUP}/request-hash"
"""Beside it: the hash of what was asked for."""
ANNOTATION_ASKED_BY: Final = f"{GROUP}/asked-by-session"
"""On a Delegation: `<agent>/<sessionId>` of the session that asked for it on its socket; only a gateway may say so."""
LABEL_SESSION: Final = f"{GROUP}/session"
"""On a Delegation: the AgentSession whose model asked for it, by name."""
ANNOTATION_TOOL_USE: Final = f"{GROUP}/tool-use-id"
"""Beside it: the tool call that its end answers."""
ANNOTATION_CANCEL_CASCADE: Final = f"{GROUP}/cancel-cascade"
"""On a delegation: "false" keeps its cancel (or failure) from its children (DESIGN.md section 5, D9)."""

COMPONENT_GATEWAY: Final = "gateway"
COMPONENT_OPERATOR: Final = "operator"
SWEEPER_NAME: Final = "default"
DEFAULT_AUDIENCE: Final = "belay-gateway"

VERB_DELEGATE: Final = "delegate"
VERB_ATTACH: Final = "attach"
SESSION_TOPIC_PREFIX: Final = "session/"
