"""Rules of the house that no linter knows (CONTRIBUTING.md)."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE_ROOTS = ("crds", "kube", "operator", "gateway", "client", "hack")


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_source_roots_shadow_nothing(root: str) -> None:
    """A source root holds packages only: `operator/__init__.py` would replace the standard library's `operator`."""
    scripts = {"hack": {"behaviour.py", "render_manifests.py"}}.get(root, set())
    assert {path.name for path in (ROOT / root).glob("*.py")} == scripts


def test_interpreter_starts_at_the_root() -> None:
    """Python started at the checkout's root still finds the standard library's `operator`."""
    done = subprocess.run(
        [sys.executable, "-c", "import operator, enum; print(operator.add(1, 1))"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "2"


def test_links_of_the_documents_lead_somewhere() -> None:
    """What README, CONTRIBUTING and docs/ point to is there."""
    missing = [
        f"{page.name}: {link}"
        for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert not missing


def test_every_make_target_explains_itself() -> None:
    """`make` alone lists every target, each with a sentence."""
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)", makefile, flags=re.MULTILINE))
    explained = set(re.findall(r"^([a-z-]+):.*## \S", makefile, flags=re.MULTILINE))
    assert phony == explained
