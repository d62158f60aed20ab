"""When a failed attempt is repeated, and after how long."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from hearth_runtime.errors import HearthError


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter: the delay is uniform between 0 and a bound that doubles up to the cap.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    base: timedelta
    cap: timedelta
    uniform: Callable[[float, float], float] = random.uniform

    def delay(self, error: HearthError, *, retries_done: int, max_retries: int) -> timedelta | None:
        """How long to wait before the next attempt; None where there is none. Not less than what the error asks for."""
        if not error.retryable or retries_done >= max_retries:
            return None
        bound = min(self.cap.total_seconds(), self.base.total_seconds() * 2.0 ** min(retries_done, 32))
        least = min(error.retry_after_seconds or 0.0, self.cap.total_seconds())
        return timedelta(seconds=max(least, self.uniform(0.0, bound)))
