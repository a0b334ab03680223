"""The chart's objects for some values, without a cluster."""

import subprocess
from typing import Any

from belay_dev import binaries
from belay_dev.tools import Tool
from chart.helm import ROOT, documents, of_kind

Json = dict[str, Any]


def rendered(*flags: str) -> list[Json]:
    """What `helm template` renders."""
    program = str(binaries.ensure([Tool.HELM])[Tool.HELM])
    command = [program, "template", "belay", str(ROOT), "--namespace", "belay", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def environment(objects: list[Json], process: str) -> dict[str, str]:
    """The environment of a process' container."""
    (found,) = (d for d in of_kind(objects, "Deployment") if d["metadata"]["name"] == f"belay-{process}")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each["value"] for each in container["env"]}
