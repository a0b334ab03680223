"""The image: its steps, run without a container engine, give both processes and nothing of the development."""

import re
import subprocess

import pytest

from chart.helm import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.mark.timeout(900)
def test_its_steps_give_both_processes() -> None:
    """From the lock file into a clean folder that nobody may write to; `hack/image.sh` tells where it fails."""
    done = subprocess.run([ROOT / "hack" / "image.sh"], capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "image: done" in done.stdout


def test_the_dockerfile_runs_these_steps_and_no_others() -> None:
    """What is tested is what is built."""
    assert re.findall(r"^RUN (.*)$", DOCKERFILE, flags=re.MULTILINE) == ["/src/hack/install.sh /src /opt/belay"]


def test_it_runs_as_a_user_by_number() -> None:
    """Pod Security `restricted` can't see that a name isn't root's."""
    (user,) = re.findall(r"^USER (.*)$", DOCKERFILE, flags=re.MULTILINE)
    assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", user)


def test_both_stages_have_one_python() -> None:
    """What is installed in the first runs in the last."""
    assert len(set(re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE))) == 1


def test_the_build_sees_what_the_script_copies() -> None:
    """.dockerignore lets through what hack/image.sh takes, and no more."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    (taken,) = re.findall(r"--exclude-standard -- \\\n\s+(.*) \|", (ROOT / "hack" / "image.sh").read_text())
    assert set(taken.split()) == allowed
