"""Every request that Belay's accounts made while the tests ran, from the audit logs of their control planes."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from belay_api.meta import GROUP
from belay_dev.components import AUDIT_BACKUPS
from belay_dev.controlplane import ControlPlane
from belay_kube.client import Json
from installation import MANIFESTS, NAMESPACE
from rights.roles import ACCOUNTS, GRANTED_BY_NAME, Asked, Rule, Verdict, chart_rules, lacking, verdict

_PREFIX = f"system:serviceaccount:{NAMESPACE}:"
_MARKS = tuple(f'"{_PREFIX}{account}"'.encode() for account in ACCOUNTS)
_SETTLED = frozenset({Verdict.HELD, Verdict.NOT_THE_CHARTS, Verdict.EXPECTED})
_DECISION, _REASON = "authorization.k8s.io/decision", "authorization.k8s.io/reason"


@dataclass(frozen=True, order=True)
class Answer:
    """A request, and what the authorizer made of it."""

    asked: Asked
    allowed: bool
    reason: str


class Record:
    """Filled before a control plane goes; `complaints` is what fails the run."""

    def __init__(self) -> None:
        self.answers: Counter[Answer] = Counter()
        self._torn: list[Path] = []
        """Logs whose beginning was rotated away."""
        self._expected: Counter[Asked] = Counter()

    @cached_property
    def rules(self) -> frozenset[Rule]:
        """The chart's, with its own values."""
        return chart_rules(yaml.safe_load_all((MANIFESTS / "install.yaml").read_text()))

    def expects(self, asked: str, namespace: str, *, group: str = GROUP, times: int = 1) -> None:
        """A test is about to ask so often for what the roles don't hold, on purpose, and nobody else ever does.

        `asked`: account, verb and resource, e.g. `belay-gateway create sessionturns`.
        """
        account, verb, resource = asked.split()
        self._expected[Asked(account, verb, group, resource, namespace)] += times

    @contextmanager
    def kept(self, plane: ControlPlane) -> Iterator[None]:
        """Read a control plane's log at the end, before it stops."""
        try:
            yield
        finally:
            self.read(plane.audit_log)

    def read(self, path: Path) -> None:
        """Take in all that Belay's accounts asked for, from an audit log and what was rotated out of it."""
        logs = sorted(path.parent.glob(f"{path.stem}*{path.suffix}"))
        if len(logs) > AUDIT_BACKUPS:
            self._torn.append(path)
        for log in logs:
            with log.open("rb") as lines:
                self.answers.update(answers(lines))

    def complaints(self) -> list[str]:
        """A sentence for each kind of request that the chart's roles don't explain."""
        judged = ((each, self._verdict(each), times) for each, times in sorted(self.answers.items()))
        lost = [f"the beginning of {log} is lost: raise AUDIT_BACKUPS in belay_dev/components.py" for log in self._torn]
        return lost + [_sentence(each, found, times) for each, found, times in judged if found not in _SETTLED]

    def unused(self) -> list[str]:
        """The chart's rights that no request needed."""
        asked = {each.asked for each in self.answers}
        return sorted(str(rule) for rule in self.rules if not any(map(rule.allows, asked)))

    def _verdict(self, answer: Answer) -> Verdict:
        if self._expected[answer.asked] >= self.answers[answer]:
            return Verdict.EXPECTED
        everybodys = 'of ClusterRole "system:' in answer.reason
        return verdict(self.rules, answer.asked, allowed=answer.allowed, everybodys=everybodys)


def answers(lines: Iterable[bytes]) -> Iterator[Answer]:
    """What Belay's accounts asked for in the lines of an audit log, once for each request."""
    for line in lines:
        if any(mark in line for mark in _MARKS) and (found := _answer(json.loads(line))):
            yield found


def _answer(entry: Json) -> Answer | None:
    # Only a watch is told at its start too; one that is still open has no end yet.
    stage = "ResponseStarted" if entry["verb"] == "watch" else "ResponseComplete"
    account = entry["user"]["username"].removeprefix(_PREFIX)
    said = entry.get("annotations") or {}
    if entry["stage"] != stage or account not in ACCOUNTS or _DECISION not in said:
        return None
    return Answer(_asked(account, entry), said[_DECISION] == "allow", said.get(_REASON, ""))


def _asked(account: str, entry: Json) -> Asked:
    of = entry.get("objectRef")
    if of is None:
        return Asked(account, entry["verb"], "", entry["requestURI"].partition("?")[0])
    resource = "/".join(filter(None, (of["resource"], of.get("subresource"))))
    name = of.get("name", "") if of["resource"] in GRANTED_BY_NAME else ""
    namespace = of.get("namespace", "")
    return Asked(account, entry["verb"], of.get("apiGroup", ""), resource, namespace, name)


def _sentence(answer: Answer, found: Verdict, times: int) -> str:
    said = f" ({answer.reason})" if answer.reason else ""
    remedy = "" if found is Verdict.DENIED else f"; {lacking(answer.asked)}"
    return f"{answer.asked}, {times} times: {found}{said}{remedy}"
