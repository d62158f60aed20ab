"""The plots of docs/performance.md."""

from pathlib import Path

import pytest
from plots import PLOTS
from report import Row

ROWS = [
    Row.of("runs per second, 4 slots", {"hearth": 40, "celery": 20}),
    *(Row.of(f"processor time of a run, {n} queued (ms)", {"hearth": n}) for n in (100, 1000)),
    *(Row.of(f"processor time of a run, {n} (ms)", {"hearth": 3}) for n in ("1 worker", "2 workers")),
    Row.of("a task among 100,000 rows, p50 (ms)", {"hearth": 4}),  # one size shows no growth
]


@pytest.mark.parametrize(
    ("plot", "shown", "not_shown"),
    [
        ("throughput", ["Hearth", "FastAPI + Celery", "4 slots", "40"], []),
        ("growth", ["processor time of a run", "runs that wait", "workers"], ["rows of events"]),
    ],
)
def test_a_plot_shows_its_figures_and_is_always_the_same(
    plot: str, shown: list[str], not_shown: list[str], tmp_path: Path
) -> None:
    first, again = tmp_path / "first.svg", tmp_path / "again.svg"
    assert PLOTS[plot](ROWS, first)
    assert PLOTS[plot](ROWS, again)
    text = first.read_text()
    assert text == again.read_text()
    assert [label for label in shown if f">{label}<" not in text] == []
    assert [label for label in not_shown if label in text] == []


@pytest.mark.parametrize("plot", PLOTS)
def test_without_figures_there_is_no_plot(plot: str, tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    assert not PLOTS[plot](ROWS[-1:], path)
    assert not path.exists()
