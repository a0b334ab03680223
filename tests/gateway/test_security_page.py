"""docs/security.md says what there is: every reason that can be counted, every setting by its name and default."""

import re
from pathlib import Path

import pytest

from belay_api.messages import ErrorCode
from belay_gateway.metrics import Metrics
from belay_gateway.refusals import Why
from belay_gateway.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


@pytest.mark.parametrize("why", Why)
def test_C8_every_reason_stands_on_the_page(why: Why) -> None:
    """Whoever sees a label finds out what it means."""
    assert f"`{why}`" in PAGE


def test_C8_reasons_of_the_page_exist() -> None:
    """And the page names no reason that is never counted, so an alert on one can fire."""
    coded = {f"{what}_{code}" for what in ("action", "subscribe") for code in ErrorCode}
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("|") and "`reason`" not in line]
    named = {reason for row in rows if len(row) > 4 for reason in re.findall(r"`([a-z0-9_]+)`", row[3])}
    assert named
    assert named <= {*map(str, Why), *coded}


@pytest.mark.parametrize(("name", "default"), re.findall(r"`([a-z_]+)` \(([0-9,]+)\)", PAGE))
def test_C8_settings_of_the_page_have_these_defaults(name: str, default: str) -> None:
    """A number on the page is the one in force."""
    assert Settings.model_fields[name].default == int(default.replace(",", ""))


def test_C8_labels_are_a_closed_set() -> None:
    """All are there from the start, at zero, and each kind of refusal has its own."""
    text = Metrics().text().decode()
    labels = re.findall(r'refusals_total\{reason="([a-z0-9_]+)"\} 0\.0', text)
    assert len(labels) == len(set(labels)) == len(Why) + 2 * len(ErrorCode)
