"""main.py: what the operator sees to at its start is what it does later on."""

from belay_operator.main import NEEDS


def test_every_deletion_and_creation_is_among_the_needs() -> None:
    """A right that is lacking is told at the start, not a day later when the first finished delegation is to go."""
    needs = {str(need) for need in NEEDS}
    assert {
        "create delegationsweepers (belay.dev)",
        *(f"delete {kind} (belay.dev)" for kind in ("agentsubscriptions", "delegations", "permissionrequests")),
    } <= needs
