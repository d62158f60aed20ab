"""The plots of docs/performance.md. Each takes the rows of results.json, draws a file and tells whether it could.

What is measured for several sizes is named alike: `what, 1000 queued`, `what, 2 workers`, `what among 10,000 rows`.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from report import Row

# With the salt, the same figures give the same file.
matplotlib.rcParams.update({"svg.hashsalt": "hearth", "svg.fonttype": "none", "axes.grid": True, "grid.alpha": 0.3})

SYSTEMS = {"hearth": "Hearth", "celery": "FastAPI + Celery", "aegra": "Aegra"}
SIZES = {"worker": "workers", "queued": "runs that wait", "rows": "rows of events"}
SIZED = re.compile(r"(?P<what>.*?)(,| among) (?P<size>[\d,]+) (?P<of>worker|queued|rows)s?(, p50)?")


def throughput(rows: Sequence[Row], path: Path) -> bool:
    """Runs per second, a group of bars for each number of slots."""
    found = [row for row in rows if re.fullmatch(r"runs per second, \d+ slots", row.name)]
    if not found:
        return False
    figure = Figure(figsize=(7, 3.5))
    axes = figure.subplots()
    width = 0.8 / len(SYSTEMS)
    for number, (system, label) in enumerate(SYSTEMS.items()):
        places = [group + (number - 1) * width for group in range(len(found))]
        bars = axes.bar(places, [getattr(row, system) or 0 for row in found], width * 0.95, label=label)
        axes.bar_label(bars, fmt="%.0f", fontsize=9)
    axes.set_xticks(range(len(found)), [row.name.rpartition(", ")[2] for row in found])
    axes.set_ylabel("runs per second")
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.25)
    axes.legend(ncols=len(SYSTEMS), loc="upper center")
    _write(figure, path)
    return True


def growth(rows: Sequence[Row], path: Path) -> bool:
    """What a piece of work costs, in milliseconds, by what it grows with: a panel for each that was measured."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        match = SIZED.fullmatch(row.name)
        if match and row.unit == "ms" and row.hearth is not None:
            lines = panels.setdefault(match["of"], {})
            lines.setdefault(match["what"], []).append((int(match["size"].replace(",", "")), row.hearth))
    lines_of = {of: {w: points for w, points in panels.get(of, {}).items() if len(points) > 1} for of in SIZES}
    shown = [of for of in SIZES if lines_of[of]]
    if not shown:
        return False
    figure = Figure(figsize=(4 * len(shown), 3.8))
    columns = figure.subplots(1, len(shown), squeeze=False)
    for axes, of in zip(columns[0], shown, strict=True):
        for what, points in lines_of[of].items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=what)
        if of == "worker":
            axes.set_xticks([size for points in lines_of[of].values() for size, _ in points])
        else:
            axes.set_xscale("log")
        axes.set_xlabel(SIZES[of])
        axes.set_ylabel("ms")
        axes.set_ylim(0, 1.3 * max(value for points in lines_of[of].values() for _, value in points))
        axes.legend(fontsize=8)
    _write(figure, path)
    return True


def _write(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    # It ends lines with spaces.
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))


PLOTS: dict[str, Callable[[Sequence[Row], Path], bool]] = {"throughput": throughput, "growth": growth}
