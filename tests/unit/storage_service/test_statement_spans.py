"""What spans of statements are called."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from storage_service.queries import parse_queries
from storage_service.statement_spans import StatementNames


@pytest.mark.parametrize(
    ("statement", "name", "summary"),
    [
        (parse_queries("-- name: finish_task\nUPDATE tasks SET a = $1;")["finish_task"], "finish_task", "finish_task"),
        ("BEGIN;", "BEGIN;", None),
        ("SELECT '/* other */'", "SELECT", None),
        (None, "chat", None),
    ],
)
def test_a_span_is_called_after_its_statement(statement: str | None, name: str, summary: str | None) -> None:
    provider, spans = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(StatementNames())
    provider.add_span_processor(SimpleSpanProcessor(spans))
    first_word = "chat" if statement is None else statement.removeprefix("/* finish_task */").split()[0]
    attributes = None if statement is None else {"db.statement": statement}
    with provider.get_tracer("test").start_as_current_span(first_word, attributes=attributes):
        pass
    (span,) = spans.get_finished_spans()
    assert (span.name, (span.attributes or {}).get("db.query.summary")) == (name, summary)
