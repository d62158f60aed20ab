"""Filters in memory mean what storage-service's SQL means."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hearth_runtime.events import EventKind, EventLevel
from log_service.filters import EventFilter, text_of
from servers.log_process import event

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = event(
    "t",
    "Hello World 100%",
    kind=EventKind.STEP,
    agent_id="a",
    level=EventLevel.WARNING,
    timestamp=NOW,
    context={"n": 1.5, "s": "x", "none": None, "deep": {"a": 1}},
)


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (EventFilter(), True),
        (EventFilter(task_ids=("u", "t")), True),
        (EventFilter(task_ids=("u",)), False),
        (EventFilter(agent_ids=("a",)), True),
        (EventFilter(agent_ids=("b",)), False),
        (EventFilter(levels=EventLevel.WARNING.and_worse()), True),
        (EventFilter(levels=(EventLevel.ERROR,)), False),
        (EventFilter(kinds=(EventKind.STEP,)), True),
        (EventFilter(kinds=(EventKind.LOG,)), False),
        (EventFilter(contains="lo wO"), True),
        (EventFilter(contains="100%"), True),
        (EventFilter(contains="1_0"), False),
        (EventFilter(contains=""), True),
        (EventFilter(since=NOW), True),
        (EventFilter(since=NOW + timedelta(microseconds=1)), False),
        (EventFilter(until=NOW), False),
        (EventFilter(until=NOW + timedelta(microseconds=1)), True),
        (EventFilter(context={"n": "1.5", "s": "x"}), True),
        (EventFilter(context={"n": "1.50"}), False),
        (EventFilter(context={"none": "null"}), False),
        (EventFilter(context={"missing": ""}), False),
        (EventFilter(context={"deep": '{"a": 1}'}), True),
        (EventFilter(task_ids=("t",), levels=(EventLevel.ERROR,)), False),
    ],
)
def test_each_field_that_is_set_must_match(wanted: EventFilter, matches: bool) -> None:
    assert wanted.matches(EVENT) is matches


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", "a\nb"),
        (None, None),
        (True, "true"),
        (0, "0"),
        (-0.0, "0.0"),
        (1e22, "10000000000000000000000"),
        (1e-7, "0.0000001"),
        ([1, "a", None, False], '[1, "a", null, false]'),
        ({"bb": [], "a": {}, "c": "ü\n"}, '{"a": {}, "c": "ü\\n", "bb": []}'),
    ],
)
def test_values_have_the_text_that_postgresql_gives_them(value: Any, text: str | None) -> None:
    assert text_of(value) == text
