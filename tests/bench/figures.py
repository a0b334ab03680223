"""Figures of a run: medians and tails, each told as a ratio to what the raw API server does in the same run."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


def quantile(values: Iterable[float], part: float) -> float:
    """The value below which `part` of all lie (nearest rank). Raises ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


@dataclass(frozen=True)
class Figure:
    """One line of the table: what was measured, what the raw API server does, the ratio and its budget."""

    what: str
    measured: str
    raw: str
    ratio: str
    budget: str
    holds: bool


def table(title: str, figures: Sequence[Figure]) -> Table:
    """The figures as a table."""
    made = Table(title=title, title_justify="left")
    for column in ("what", "measured", "raw in the same run", "ratio", "budget", ""):
        made.add_column(column)
    for one in figures:
        made.add_row(one.what, one.measured, one.raw, one.ratio, one.budget, "✓" if one.holds else "over")
    return made


def show(title: str, figures: Sequence[Figure]) -> int:
    """Print the table; the exit code is 0 when all that is promised holds."""
    Console(width=150).print(table(title, figures))
    return 0 if all(figure.holds for figure in figures) else 1
