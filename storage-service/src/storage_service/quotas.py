"""What an owner may have.

It is counted in the rows, in the transaction that accepts a task, so that any number of processes agree.
"""

from hearth_runtime.errors import QuotaExceeded
from hearth_runtime.principals import current_principal

from storage_service.database import Transaction
from storage_service.queries import load_queries

SQL = load_queries("quotas")

# When a run will end is not known.
RUNS_RETRY_SECONDS = 5.0


def is_limited() -> bool:
    """Whether the owner that the present call is made for has any bound."""
    principal = current_principal()
    return principal is not None and principal.is_limited


class Quotas:
    """The bounds that came with the call: those of the key that was used, on all that its owner has."""

    async def obstacle(self, transaction: Transaction) -> QuotaExceeded | None:
        """Why the owner that the present call is made for may have no further task now; others of its wait until the
        transaction ends."""
        principal = current_principal()
        if principal is None or not principal.is_limited:
            return None
        await transaction.fetchrow(SQL["lock_quotas"])
        row = await transaction.fetchrow(SQL["measure"])
        assert row is not None
        if principal.tasks_per_minute is not None and row["tasks_per_minute"] >= principal.tasks_per_minute:
            return _exceeded(
                "tasks_per_minute", principal.tasks_per_minute, "tasks within a minute", 60, row["minute_left"] or 1.0
            )
        if principal.concurrent_runs is not None and row["concurrent_runs"] >= principal.concurrent_runs:
            return _exceeded(
                "concurrent_runs", principal.concurrent_runs, "runs that have not ended", None, RUNS_RETRY_SECONDS
            )
        if principal.tokens_per_day is not None:
            used = await transaction.fetchrow(SQL["measure_tokens"])
            assert used is not None
            if used["tokens"] >= principal.tokens_per_day:
                return _exceeded(
                    "tokens_per_day", principal.tokens_per_day, "tokens within 24 hours", 86400, used["day_left"] or 1.0
                )
        return None


def _exceeded(quota: str, limit: int, what: str, window_seconds: int | None, seconds: float) -> QuotaExceeded:
    return QuotaExceeded(
        f"The key allows {limit} {what}, and they are used. Try again later, or ask whoever runs Hearth for more.",
        metadata={
            "quota": quota,
            "limit": str(limit),
            **({} if window_seconds is None else {"window_seconds": str(window_seconds)}),
        },
        retry_after_seconds=max(1.0, seconds),
    )
