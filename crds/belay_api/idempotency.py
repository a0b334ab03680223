"""The same request twice makes one object (D5). Pure: the key is in the object's name, what was asked is in its
annotation, so that the API server's own uniqueness of names is the arbiter, without a table and without a race.

    <hash of namespace, caller and key>-1 ──Failed──▶ the same key makes -2 ──Failed──▶ -3 …

All of them carry the hash as a label: a number is never taken again while a later one stands, though the earlier one
may have reached the end of its TTL.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256
from typing import Any

from belay_api.delegation import DelegationSpec
from belay_api.meta import ANNOTATION_REQUEST_HASH, LABEL_IDEMPOTENCY
from belay_api.names import short_hash
from belay_api.transitions import Phase

MAX_KEY_CHARS = 256
KEY_CHARS = r"[\x21-\x7e]"
"""What a key is made of: visible ASCII, which every header and shell carries as it is."""
KEY = re.compile(f"{KEY_CHARS}{{1,{MAX_KEY_CHARS}}}")
_NOT_ASKED = {"requester"}
"""The caller's name, which is a part of the object's name already."""


class Standing(Enum):
    """What an object of the same key means for a request."""

    SAME = auto()
    """It is the answer."""
    OTHER = auto()
    """The key was used for something else."""
    FAILED = auto()
    """It was the answer, but Failed: the request may be made again."""


@dataclass(frozen=True)
class Keyed:
    """One request under a key: `stem` names its objects, `digest` says what was asked."""

    stem: str
    digest: str
    caller: str

    def name(self, number: int) -> str:
        """Name of the `number`th object of this key, from 1."""
        return f"{self.stem}-{number}"

    def number(self, name: str) -> int:
        """The inverse of `name`; 0 for a name that isn't one of this key."""
        stem, _, digits = name.rpartition("-")
        return int(digits) if stem == self.stem and digits.isascii() and digits.isdigit() else 0

    def selector(self) -> str:
        """The label selector of all objects of this key."""
        return f"{LABEL_IDEMPOTENCY}={self.stem}"

    def marked(self, body: Mapping[str, Any], number: int) -> dict[str, Any]:
        """The body to create as the `number`th object: with its name, its label and what was asked."""
        meta = body.get("metadata") or {}
        labels = {**(meta.get("labels") or {}), LABEL_IDEMPOTENCY: self.stem}
        annotations = {**(meta.get("annotations") or {}), ANNOTATION_REQUEST_HASH: self.digest}
        marked = {**meta, "name": self.name(number), "labels": labels, "annotations": annotations}
        return {**body, "metadata": marked}

    def is_callers(self, found: Mapping[str, Any]) -> bool:
        """Whether the caller asked for it; admission sees to it that nobody says so of another."""
        return bool((found.get("spec") or {}).get("requester") == self.caller)

    def standing(self, found: Mapping[str, Any]) -> Standing:
        """What an object that stands under a name of this key means. The body is looked at first: a key that was used
        for something else stays so, however that ended."""
        asked = (found["metadata"].get("annotations") or {}).get(ANNOTATION_REQUEST_HASH)
        if asked != self.digest or not self.is_callers(found):
            return Standing.OTHER
        failed = (found.get("status") or {}).get("phase") == Phase.FAILED
        return Standing.FAILED if failed else Standing.SAME


def keyed(namespace: str, caller: str, key: str, body: Mapping[str, Any]) -> Keyed:
    """The request of `body`, a Delegation, that `caller` makes in `namespace` under `key`. Raises ValidationError."""
    return Keyed(short_hash(namespace, caller, key), request_hash(body), caller)


def request_hash(body: Mapping[str, Any]) -> str:
    """A hash of what is asked: equal for bodies that differ only in the order of keys, in a default that is written
    out, in naming the caller, or in which of the caller's sessions asked. Raises ValidationError for what is no spec.
    """
    labels = (body.get("metadata") or {}).get("labels") or {}
    spec = DelegationSpec.model_validate(body["spec"]).model_dump(
        mode="json", by_alias=True, exclude=_NOT_ASKED, exclude_defaults=True, exclude_none=True
    )
    asked = {"spec": spec, "labels": labels}
    return sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
