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

COMPONENT_GATEWAY: Final = "gateway"
COMPONENT_OPERATOR: Final = "operator"
SWEEPER_NAME: Final = "default"
DEFAULT_AUDIENCE: Final = "belay-gateway"

VERB_DELEGATE: Final = "delegate"
VERB_ATTACH: Final = "attach"
SESSION_TOPIC_PREFIX: Final = "session/"
