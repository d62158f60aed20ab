"""docs/performance.md and what writes it."""

import orjson
import pytest
import report
from report import Row, Target

PAGE = """# Page

By hand.

<!-- measured -->
<!-- end -->

<!-- figures: fast; slow -->
old
<!-- end -->

Why it is so.

<!-- plot: lines -->
<!-- end -->
"""
FILLED = """# Page

By hand.

<!-- measured -->

- 2026-11-28, here: four, one
- 2026-11-29, there: two

<!-- end -->

<!-- figures: fast; slow -->

| what | Hearth | FastAPI + Celery | to reach | reached |
| --- | ---: | ---: | --- | --- |
| fast (1/s) | 12,000 | 3 | ≥ 2 x celery | yes |
| slow, p50 (ms) | 0.125 |  |  |  |

<!-- end -->

Why it is so.

<!-- plot: lines -->

![lines](performance-lines.svg)

<!-- end -->
"""


def test_the_page_shows_the_results() -> None:
    plots = [path.stem.removeprefix("performance-") for path in report.PAGE.parent.glob("performance-*.svg")]
    measured = orjson.loads(report.MEASURED.read_bytes()) if report.MEASURED.exists() else {}
    page = report.PAGE.read_text()
    assert report.filled(page, report.load(), measured, plots) == page, ".venv/bin/python benchmarks/report.py"


def test_every_figure_is_on_the_page() -> None:
    page = report.PAGE.read_text()
    assert [row.name for row in report.load() if f"| {row.name} ({row.unit}) |" not in page] == []


def test_words_stay_and_figures_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(report.TARGETS, "fast", Target(at_least=True, celery=2))
    rows = [
        Row.of("slow, p50 (ms)", {"hearth": 0.12501}),
        Row.of("other", {"hearth": 1}),
        Row.of("fast", {"hearth": 12_000, "celery": 3}),
    ]
    measured = {"one": "2026-11-28, here", "two": "2026-11-29, there", "four": "2026-11-28, here"}
    page = report.filled(PAGE, rows, measured, ["lines"])
    assert page == FILLED
    assert report.filled(page, rows, measured, ["lines"]) == page


def test_a_target_without_what_it_is_compared_with_is_neither_met_nor_missed() -> None:
    target = Target(celery=0.5, aegra=2)
    assert target.text() == "≤ 0.5 x celery, ≤ 2 x aegra"
    assert target.met(1, {"celery": 2}) is None
    assert target.met(1, {"celery": 2, "aegra": 0.5})
    assert not target.met(1.1, {"celery": 2, "aegra": 1})
