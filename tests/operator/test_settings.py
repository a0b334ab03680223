"""settings.py and the times it makes: wrong sweeper variables are logged and defaulted; precedence (S5)."""

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from belay_api.timing import Times
from belay_operator.observe.index import Index
from belay_operator.settings import Settings

from .builders import delegation

INTERVAL = "DELEGATION_SWEEPER_INTERVAL_S"
THRESHOLD = "DELEGATION_STUCK_THRESHOLD_S"
DEFAULTS = {INTERVAL: 300, THRESHOLD: 600}
BAD = ["abc", "", "0", "-5", "1.5", "1_0", " 5", "5 ", "\u0665", "+5", "05", "1e3", "0x10", "99999999", "None"]


def read(settings: Settings, variable: str) -> int:
    """The value that a variable led to."""
    return settings.sweeper_interval if variable == INTERVAL else settings.stuck_threshold


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such variable but what a test sets."""
    for variable in DEFAULTS:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("value", BAD, ids=repr)
@pytest.mark.parametrize("variable", DEFAULTS)
def test_S5_a_wrong_value_is_logged_and_the_default_is_used(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing error never keeps the operator from starting."""
    monkeypatch.setenv(variable, value)
    with capture_logs() as logs:
        assert read(Settings(), variable) == DEFAULTS[variable]
    [said] = logs
    assert (said["log_level"], said["value"], said["default"]) == ("warning", value, DEFAULTS[variable])


@pytest.mark.parametrize("value", ["1", "10", "3600"])
@pytest.mark.parametrize("variable", DEFAULTS)
def test_S5_a_right_value_is_used(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole seconds from 1 on, and nothing is logged."""
    monkeypatch.setenv(variable, value)
    with capture_logs() as logs:
        assert read(Settings(), variable) == int(value)
    assert logs == []


def test_S5_the_defaults() -> None:
    """5 minutes, 10 minutes, 6 hours; 15, 45 and 30 seconds."""
    settings = Settings()
    assert settings.sweeper_interval == 300
    assert settings.times() == Times(15, 45, 30, 21600, 600)


def test_other_settings_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the two sweeper variables are forgiving."""
    monkeypatch.setenv("BELAY_GRACE_SECONDS", "soon")
    with pytest.raises(ValidationError, match="grace_seconds"):
        Settings()


@pytest.mark.parametrize(
    ("environment", "sweeper", "agent", "own", "expected"),
    [
        pytest.param(None, None, None, None, 600, id="default"),
        pytest.param(500, None, None, None, 500, id="environment over default"),
        pytest.param(500, 400, None, None, 400, id="DelegationSweeper over environment"),
        pytest.param(500, 400, 300, None, 300, id="Agent over DelegationSweeper"),
        pytest.param(500, 400, 300, 200, 200, id="Delegation over Agent"),
        pytest.param(500, None, None, 200, 200, id="Delegation over environment"),
    ],
)
def test_S5_precedence(
    environment: int | None,
    sweeper: int | None,
    agent: int | None,
    own: int | None,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Delegation > Agent.timing > DelegationSweeper > environment > default."""
    if environment:
        monkeypatch.setenv(THRESHOLD, str(environment))
    times = Settings().times().overridden({"stuckThresholdSeconds": sweeper})
    given = delegation().stuck_after(own) if own else delegation()
    in_force = Index(times).times.overridden({"stuckThresholdSeconds": agent})
    assert given.work.threshold(in_force) == expected
