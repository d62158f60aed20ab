"""The figures of benchmarks: what they are to reach, and that a part keeps those of the others."""

import pytest
from report import Row, merged, number


@pytest.mark.parametrize(
    ("name", "figure", "target", "met"),
    [
        ("history by text that is rare, p99, 1,000 rows (ms)", 50, "≤ 50", True),
        ("history by agent, p99, 1,000 rows (ms)", 51, "≤ 50", False),
        ("history by agent, p50, 1,000 rows (ms)", 51, None, None),
        ("search among 1,000 keeping 1 %, as it is, recall@10 (share)", 0.94, "≥ 0.95", False),
        ("search among 1,000, ef_search 40, recall@10 (share)", 0.94, None, None),
    ],
)
def test_a_figure_has_the_target_of_its_name(name: str, figure: float, target: str | None, met: bool | None) -> None:
    row = Row.of(name, {"hearth": figure})
    assert (row.target, row.met) == (target, met)


def test_found_rows_take_the_place_of_those_of_their_names() -> None:
    before = [Row.of(name, {"hearth": 1}) for name in ("a (ms)", "b (ms)", "c (ms)")]
    found = [Row.of(name, {"hearth": 2}) for name in ("d (ms)", "b (ms)")]
    assert [(row.name, row.hearth) for row in merged(before, found)] == [("a", 1), ("b", 2), ("c", 1), ("d", 2)]


@pytest.mark.parametrize(("value", "text"), [(12345.67, "12,346"), (12.34, "12.3"), (2.345, "2.35"), (0.995, "0.995")])
def test_a_number_has_as_many_digits_as_say_something(value: float, text: str) -> None:
    assert number(value) == text
