"""Lists the behaviours of BEHAVIOUR.md that no test names; `behaviour.py --must ID …` fails if one of those is missing.

A test names the ids it shows: `test_P4_touch_never_resurrects`. BEHAVIOUR.md is in shared/, beside the checkout.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEHAVIOUR = ROOT.parent / "shared" / "BEHAVIOUR.md"


def stated(text: str) -> list[str]:
    """Ids in the order in which they are stated."""
    return re.findall(r"^- ([A-Z]\d+) ", text, flags=re.MULTILINE)


def shown(tests: Path) -> set[str]:
    """Ids that some test's name holds."""
    names = (name for path in tests.rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text()))
    return {part for name in names for part in name.split("_") if re.fullmatch(r"[A-Z]\d+", part)}


def main() -> int:
    """Print what is missing; the exit code tells whether any of `--must` is."""
    if not BEHAVIOUR.is_file():
        print(f"{BEHAVIOUR.name} is not beside the checkout, in shared/: nothing to compare with", file=sys.stderr)
        return 1
    must = set(sys.argv[2:]) if sys.argv[1:2] == ["--must"] else set()
    named = shown(ROOT / "tests")
    missing = [one for one in stated(BEHAVIOUR.read_text()) if one not in named]
    print(f"no test names: {' '.join(missing) or 'none, all are named'}")
    return 1 if must & set(missing) else 0


if __name__ == "__main__":
    sys.exit(main())
