"""Where to follow a run."""

import pytest
from gateway.links import Links
from gateway.settings import GatewaySettings
from hearth.agent.v1 import task_pb2
from pydantic import ValidationError

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("url", "trace_id", "link"),
    [
        ("https://jaeger/trace/{trace_id}", TRACE_ID, f"https://jaeger/trace/{TRACE_ID}"),
        ("https://jaeger/trace/{trace_id}", None, None),
        (None, TRACE_ID, None),
    ],
)
def test_a_trace_has_a_link_where_there_is_one_to_look_at(
    url: str | None, trace_id: str | None, link: str | None
) -> None:
    assert Links(trace_url=url).of(task_pb2.Task(id="t", trace_id=trace_id)).trace == link


@pytest.mark.parametrize("url", ["https://jaeger/trace/", "jaeger/{trace_id}", "javascript:{trace_id}"])
def test_a_template_that_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="trace_id"):
        GatewaySettings(trace_url=url)


def test_an_empty_template_is_none() -> None:
    assert GatewaySettings(trace_url="").trace_url is None
