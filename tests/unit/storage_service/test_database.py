"""What a failure of PostgreSQL is told as: what to do, and nothing of the statement."""

import asyncpg
import pytest
from storage_service.database import AWAY, BUSY, FULL, READ_ONLY, REFUSED, SLOW, TROUBLED, UNMIGRATED, detail_of


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (asyncpg.DiskFullError("could not extend file"), FULL),
        (asyncpg.TooManyConnectionsError("sorry, too many clients already"), BUSY),
        (asyncpg.QueryCanceledError("canceling statement due to statement timeout"), SLOW),
        (TimeoutError(), SLOW),
        (asyncpg.InvalidPasswordError("password authentication failed"), REFUSED),
        (asyncpg.InvalidCatalogNameError('database "x" does not exist'), REFUSED),
        (asyncpg.UndefinedTableError('relation "tasks" does not exist'), UNMIGRATED),
        (asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT"), READ_ONLY),
        (asyncpg.DeadlockDetectedError("deadlock detected"), TROUBLED),
        (asyncpg.OutOfMemoryError("out of memory"), TROUBLED),
        (asyncpg.PostgresIOError("could not read block"), TROUBLED),
        (asyncpg.CannotConnectNowError("the database system is starting up"), AWAY),
        (asyncpg.AdminShutdownError("terminating connection"), AWAY),
        (asyncpg.ConnectionDoesNotExistError("connection was closed"), AWAY),
        (asyncpg.InterfaceError("connection is closed"), AWAY),
        (asyncpg.InternalClientError("cannot switch to state 12"), AWAY),
        (ConnectionRefusedError(111, "Connect call failed"), AWAY),
        (FileNotFoundError(2, "No such file"), AWAY),
    ],
)
def test_each_failure_has_its_advice(error: Exception, detail: str) -> None:
    assert detail_of(error) == detail


@pytest.mark.parametrize("error", [asyncpg.UniqueViolationError("duplicate"), asyncpg.PostgresSyntaxError("at SELECT")])
def test_a_statement_that_is_wrong_is_no_outage(error: Exception) -> None:
    assert detail_of(error) == ""
