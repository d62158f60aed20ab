"""Values that are written as one."""

import pytest
from agent_service.tool_spans import SpanKind, spans_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("What is 12 * 7?", "12 * 7"),
        ("Calculate (3 + 4) * 2.5 - 1 please", "(3 + 4) * 2.5 - 1"),
        ("How much is 15% of 80?", "15% of 80"),
        ("Move a.txt to letters/june.txt", "letters/june.txt"),
        ("Look at https://example.com/a?b=1, please.", "https://example.com/a?b=1"),
        ("Write to ann@example.org.", "ann@example.org"),
        ("Read /etc/app/config now", "/etc/app/config"),
    ],
)
def test_what_is_written_as_one_is_one_value(text: str, value: str) -> None:
    assert value in [span.value for span in spans_of(text)]


@pytest.mark.parametrize("text", ["from 2024-11-24 to 12/25/2024", "at 60 km/h and/or 3/4 of it", "rooms 3-5"])
def test_a_stroke_alone_is_no_arithmetic(text: str) -> None:
    assert SpanKind.FORMULA not in [span.kind for span in spans_of(text)]


def test_numbers_of_a_sum_may_be_meant_one_by_one() -> None:
    numbers = [span.value for span in spans_of("Add 5 + 3") if span.kind is SpanKind.NUMBER]
    assert numbers == [5, 3]
