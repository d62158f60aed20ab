"""Which errors are retried, and when."""

from datetime import timedelta

import pytest
from agent_service.retries import RetryPolicy
from hearth_runtime.errors import (
    HearthError,
    InvalidArgument,
    ModelHostUnavailable,
    ModelNotFound,
    ModelOutputInvalid,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
    RunTimeout,
    Unavailable,
)

LATEST = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=10), uniform=lambda low, high: high)
EARLIEST = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=10), uniform=lambda low, high: low)


@pytest.mark.parametrize(
    "error", [Unavailable(), ModelHostUnavailable(), ModelTimeout(), ModelOverloaded(), ModelOutputInvalid()]
)
def test_what_may_pass_is_retried(error: HearthError) -> None:
    assert LATEST.delay(error, retries_done=0, max_retries=3) == timedelta(seconds=1)


@pytest.mark.parametrize("error", [InvalidArgument(), ModelNotFound(), ModelRefused(), RunTimeout(), HearthError()])
def test_what_stays_wrong_is_not(error: HearthError) -> None:
    assert LATEST.delay(error, retries_done=0, max_retries=3) is None


def test_the_bound_doubles_up_to_the_cap_and_jitter_is_full() -> None:
    delays = [LATEST.delay(Unavailable(), retries_done=n, max_retries=100) for n in (0, 1, 2, 3, 4, 99)]
    assert delays == [timedelta(seconds=s) for s in (1, 2, 4, 8, 10, 10)]
    assert EARLIEST.delay(Unavailable(), retries_done=4, max_retries=5) == timedelta()


def test_retries_run_out() -> None:
    assert LATEST.delay(Unavailable(), retries_done=2, max_retries=3) is not None
    assert LATEST.delay(Unavailable(), retries_done=3, max_retries=3) is None
    assert LATEST.delay(Unavailable(), retries_done=0, max_retries=0) is None


def test_what_says_when_to_come_back_is_not_asked_before() -> None:
    told = Unavailable("It restarts.", retry_after_seconds=4)
    assert EARLIEST.delay(told, retries_done=0, max_retries=3) == timedelta(seconds=4)
    assert LATEST.delay(told, retries_done=3, max_retries=9) == timedelta(seconds=8)
    long = Unavailable("It is gone.", retry_after_seconds=4000)
    assert EARLIEST.delay(long, retries_done=0, max_retries=3) == timedelta(seconds=10)
