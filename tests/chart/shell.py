"""What a person has in a shell who administers the cluster of a test."""

import os
import sys
from pathlib import Path

from belay_dev import binaries
from belay_dev.tools import Tool
from chart.helm import Helm

TOOLS = [Tool.HELM, Tool.KUBECTL]


def environment(helm: Helm) -> dict[str, str]:
    """Of a person who administers the cluster, and has `belay` installed."""
    found = binaries.ensure(TOOLS)
    folders = [Path(sys.executable).parent, *(found[tool].parent for tool in TOOLS)]
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    return {**helm.environment, "PATH": path}
