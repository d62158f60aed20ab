"""Names spans of statements after the blocks of the .sql files, of which there are as many as there are names."""

import re

from opentelemetry import context, trace
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider

# As `storage_service.queries` begins each statement.
_NAME = re.compile(r"/\* ([a-z_]+) \*/")


class StatementNames(SpanProcessor):
    """Calls a statement's span what its block is called: instrumentation knows only the first word, such as SELECT.

    `db.query.summary` is that name, as the conventions have it for what names the span:
    https://opentelemetry.io/docs/specs/semconv/database/database-spans/#name
    """

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        """Renames the span, if it is of a statement that has a name."""
        statement = (span.attributes or {}).get("db.statement")
        if isinstance(statement, str) and (match := _NAME.match(statement)):
            span.update_name(match[1])
            span.set_attribute("db.query.summary", match[1])


def name_statements() -> None:
    """Names them from now on, if spans are made."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.add_span_processor(StatementNames())
