"""A process's own metrics by HTTP, and labels of which there are never too many."""

import httpx
import pytest
from hearth_runtime.metrics import OTHER, Bounded, serve_metrics
from hearth_runtime.settings import RuntimeSettings
from pydantic import ValidationError
from system.instance import free_port


def test_metrics_are_served_until_the_process_ends() -> None:
    address = f"127.0.0.1:{free_port()}"
    end = serve_metrics(RuntimeSettings(metrics_address=address))
    try:
        answer = httpx.get(f"http://{address}/metrics", trust_env=False)
        assert "process_resident_memory_bytes" in answer.text
        with pytest.raises(OSError, match="in use"):
            serve_metrics(RuntimeSettings(metrics_address=address))
    finally:
        end()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{address}/metrics", trust_env=False)


@pytest.mark.parametrize("address", [None, ""])
def test_without_an_address_nothing_is_served(address: str | None) -> None:
    serve_metrics(RuntimeSettings(metrics_address=address))()


@pytest.mark.parametrize("address", ["9464", "localhost", ":9464", "localhost:port"])
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ValidationError):
        RuntimeSettings(metrics_address=address)


def test_labels_beyond_the_bound_share_a_row() -> None:
    labels = Bounded(2)
    assert [labels("a", "x"), labels("b", "x"), labels("c", "x"), labels("a", "x")] == [
        ("a", "x"),
        ("b", "x"),
        (OTHER, OTHER),
        ("a", "x"),
    ]
    assert Bounded(1)("n" * 1000) == ("n" * 100,)
