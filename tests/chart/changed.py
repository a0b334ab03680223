"""The chart of a later release, which changes a definition."""

import shutil
from pathlib import Path

from chart.helm import ROOT


def changed_chart(folder: Path) -> Path:
    """One more column of Agents; returns the chart's folder."""
    chart = folder / "belay"
    chart.mkdir()
    for name in ("Chart.yaml", "values.yaml", "values.schema.json"):
        shutil.copy(ROOT / name, chart / name)
    for name in ("templates", "files"):
        shutil.copytree(ROOT / name, chart / name)
    template = chart / "templates" / "crds.yaml"
    text = template.read_text()
    column = "    additionalPrinterColumns:\n"
    assert column in text
    more = "    - name: Later\n      type: string\n      jsonPath: .metadata.uid\n"
    template.write_text(text.replace(column, column + more, 1))
    return chart
