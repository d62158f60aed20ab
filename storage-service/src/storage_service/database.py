"""PostgreSQL: a pool that outlives the server's restarts, and errors that say what to do.

Nothing is connected before the first call, so the process starts with PostgreSQL away; each call then tries anew.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import orjson
from asyncpg import Record
from asyncpg.pool import PoolConnectionProxy
from hearth_runtime.deadlines import bounded
from hearth_runtime.dependencies import Dependency
from hearth_runtime.errors import NotFound, Unavailable, Undone
from hearth_runtime.principals import Principal, current_principal
from loguru import logger

from storage_service.queries import load_queries
from storage_service.settings import StorageSettings

SQL = load_queries("database")

CONNECT_SECONDS = 5.0
# To the second one the policies of the tables apply; with the first the connection is what it logged in as.
OWN_ROLE, TENANT_ROLE = "none", "hearth_tenant"
# The optional conditions of a list ("$1 IS NULL OR …") leave the plan only where it knows the values.
PLAN_ANEW, KEEP_PLAN = "force_custom_plan", "force_generic_plan"
NUL, REPLACEMENT = "\0", "\N{REPLACEMENT CHARACTER}"
# How jsonb begins on the wire: the version of its binary format.
JSONB_VERSION = b"\x01"

AWAY = "PostgreSQL does not answer. Check that it runs and that HEARTH_DATABASE_URL names it, then try again."
BUSY = "PostgreSQL has no connection to spare. Try again; raise max_connections or lower HEARTH_DATABASE_POOL_SIZE."
FULL = "PostgreSQL's disk is full. Free space on it, then try again."
SLOW = "PostgreSQL did not answer in time. Narrow the request, or try again when the database is less busy."
REFUSED = "PostgreSQL refuses the connection. Mend HEARTH_DATABASE_URL: its user, password, database and form."
UNTRUSTED = (
    "PostgreSQL's TLS is not to be trusted: its certificate is not of the authority, or not for the host, that "
    "HEARTH_DATABASE_URL names. Mend its host, sslmode or sslrootcert."
)
UNMIGRATED = "The database lacks Hearth's tables. Run `python -m storage_service.migrate`, then try again."
READ_ONLY = "PostgreSQL takes no writes. Point HEARTH_DATABASE_URL at the primary server, then try again."
TROUBLED = "PostgreSQL could not do this. Look into its log, then try again."

# The first that fits counts. https://www.postgresql.org/docs/current/errcodes-appendix.html
_DETAILS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (asyncpg.DiskFullError, FULL),
    (asyncpg.TooManyConnectionsError, BUSY),
    ((asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError), SLOW),
    (
        (
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidCatalogNameError,
            asyncpg.InsufficientPrivilegeError,
            asyncpg.ClientConfigurationError,
        ),
        REFUSED,
    ),
    ((asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError), UNMIGRATED),
    (asyncpg.ReadOnlySQLTransactionError, READ_ONLY),
    (
        (
            asyncpg.InsufficientResourcesError,
            asyncpg.PostgresSystemError,
            asyncpg.TransactionRollbackError,
        ),
        TROUBLED,
    ),
    ((asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError, asyncpg.InternalClientError), AWAY),
    (TimeoutError, SLOW),
    (ssl.SSLError, UNTRUSTED),
    (OSError, AWAY),
)


class Database:
    """Statements on a bounded pool of connections, each within `call_seconds` and the deadline of the call served.

    Every method raises Unavailable where PostgreSQL fails, and DeadlineExceeded where the deadline was over before.

    Text that holds NUL, which PostgreSQL cannot store, has U+FFFD in its place.

    What a statement finds and may change is what the call's principal may see; here, and nowhere else, PostgreSQL is
    told of it. Raises NotFound where something is written to what others own.
    """

    def __init__(self, pool: asyncpg.Pool, call_seconds: float) -> None:
        self._pool = pool
        self._call_seconds = call_seconds

    async def fetch(self, query: str, *args: Any, keep_plan: bool = False) -> list[Record]:
        """All rows of one statement.

        `keep_plan` has PostgreSQL plan it once for each connection and not each time: for what is done in every run and
        finds its rows along the same index whatever the arguments are.
        """
        async with self._connection(keep_plan=keep_plan) as connection:
            rows: list[Record] = await connection.fetch(query, *map(_storable, args))
            return rows

    async def fetchrow(self, query: str, *args: Any, keep_plan: bool = False) -> Record | None:
        """The first row of one statement, or None. `keep_plan` as in `fetch`."""
        async with self._connection(keep_plan=keep_plan) as connection:
            return await connection.fetchrow(query, *map(_storable, args))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """Statements that hold together; an exception undoes them."""
        async with self._connection() as connection, connection.transaction():
            yield Transaction(connection)

    @asynccontextmanager
    async def _connection(self, *, keep_plan: bool = False) -> AsyncIterator[PoolConnectionProxy]:
        with _typed_errors():
            # Waiting for a connection, connecting and working share the time of the call. When it is over, asyncpg has
            # the server cancel the statement.
            seconds = bounded(self._call_seconds)
            async with asyncio.timeout(seconds), self._pool.acquire(timeout=seconds) as held:
                try:
                    # The pool's proxy passes it on to the connection.
                    await held.act_for(current_principal(), keep_plan=keep_plan)  # type: ignore[attr-defined]
                    yield held
                except asyncpg.InternalClientError:
                    # asyncpg lost track of this connection, as when the server ends it at this moment. Nobody gets it
                    # again.
                    held.terminate()
                    raise


class Transaction:
    """The statements of one transaction."""

    def __init__(self, connection: PoolConnectionProxy) -> None:
        self._connection = connection

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        """All rows of one statement."""
        rows: list[Record] = await self._connection.fetch(query, *map(_storable, args))
        return rows

    async def fetchrow(self, query: str, *args: Any) -> Record | None:
        """The first row of one statement, or None."""
        return await self._connection.fetchrow(query, *map(_storable, args))


@asynccontextmanager
async def open_database(settings: StorageSettings) -> AsyncIterator[Database]:
    """The database that `settings` name, to be used until the end of the context."""
    milliseconds = str(int(settings.database_call_seconds * 1000))
    pool = await asyncpg.create_pool(
        settings.database_url,
        min_size=0,
        max_size=settings.database_pool_size,
        timeout=min(CONNECT_SECONDS, settings.database_call_seconds),
        command_timeout=settings.database_call_seconds,
        connect=connect,
        init=_prepare,
        connection_class=_Connection,
        server_settings={
            "application_name": "hearth-storage",
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            "plan_cache_mode": PLAN_ANEW,
            "jit": "off",
            # As on an SSD. With the default, a list of a task with many events sorts them all instead of walking along
            # the index that has them in order (240,000 events, a task of 40,000: 17 ms against 0.6 ms).
            "random_page_cost": "1.1",
        },
    )
    try:
        yield Database(pool, settings.database_call_seconds)
    finally:
        try:
            async with asyncio.timeout(settings.grace_seconds * 0.2):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def connect(dsn: str | None = None, **options: Any) -> asyncpg.Connection:
    """Connects as asyncpg does, but every URL that is none raises ClientConfigurationError."""
    try:
        return await asyncpg.connect(dsn, **options)
    except (asyncpg.InterfaceError, ssl.SSLError):  # both may be a ValueError too
        raise
    except ValueError as error:
        raise asyncpg.ClientConfigurationError("not a PostgreSQL URL") from error


def postgresql_dependency(database: Database) -> Dependency:
    """PostgreSQL as a dependency to probe; the detail names its version and the revision of the tables."""

    async def probe() -> str:
        (row,) = await database.fetch(SQL["probe"])
        if row["revision"] is None:
            raise Unavailable(UNMIGRATED)
        return f"PostgreSQL {row['version']}, revision {row['revision']}"

    return Dependency(name="postgresql", probe=probe, advice=AWAY)


class _Connection(asyncpg.Connection):
    """A connection that is given back as it is, and remembers what its session was set to last: no other statement here
    changes it."""

    _set_to: tuple[str, str, str, str] | None = (OWN_ROLE, "", PLAN_ANEW, "on")

    def get_reset_query(self) -> str:
        return ""

    async def act_for(self, principal: Principal | None, *, keep_plan: bool) -> None:
        """From now on the policies are those for `principal`, and what is made is its owner's."""
        role = OWN_ROLE if principal is None or principal.sees_all else TENANT_ROLE
        owner = "" if principal is None else principal.owner
        # A plan that is kept must not be one for tables that were small, or tasks that were few, when it was made.
        plans = (KEEP_PLAN, "off") if keep_plan else (PLAN_ANEW, "on")
        wanted = role, owner, *plans
        if wanted != self._set_to:
            self._set_to = None  # where this is cut off, PostgreSQL may have done it or not
            await self.fetchrow(SQL["act_for"], *wanted)
            self._set_to = wanted


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb", encoder=_encode_jsonb, decoder=_decode_jsonb, schema="pg_catalog", format="binary"
    )


def _encode_jsonb(value: Any) -> bytes:
    text = orjson.dumps(value)
    if b"\\u0000" in text:
        text = orjson.dumps(_without_nul(value))
    return JSONB_VERSION + text


def _decode_jsonb(data: bytes) -> Any:
    return orjson.loads(memoryview(data)[1:])


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(NUL, REPLACEMENT)
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    return value


def _storable(argument: Any) -> Any:
    """The argument of a statement with no NUL in its text. JSON is seen to where it is encoded."""
    if isinstance(argument, str):
        return argument.replace(NUL, REPLACEMENT) if NUL in argument else argument
    if isinstance(argument, list) and isinstance(next((i for i in argument if i is not None), None), str):
        return [_storable(item) for item in argument]
    return argument


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        if current_principal() is None:
            logger.warning("PostgreSQL failed a call", error=repr(error))
            raise Unavailable(REFUSED, metadata={"dependency": "postgresql"}) from error
        # A policy's way to say that a row is somebody else's; or a table's that no owner has any business with.
        logger.info("PostgreSQL kept an owner from what others own", error=repr(error))
        raise NotFound("There is no such thing, or it is not yours.") from error
    except asyncpg.InvalidCachedStatementError as error:
        # A migration changed a table since the statement was prepared. Outside a transaction asyncpg prepares it anew.
        raise Undone(TROUBLED) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        detail = detail_of(error)
        if not detail:
            raise
        logger.warning("PostgreSQL failed a call", error=repr(error))
        raise Unavailable(detail, metadata={"dependency": "postgresql"}) from error


def detail_of(error: BaseException) -> str:
    """What to tell whoever called; empty where the statement, not PostgreSQL, is at fault."""
    for types, detail in _DETAILS:
        if isinstance(error, types):
            return detail
    # asyncpg's own errors: with ValueError, an argument that does not fit; the rest is a connection that is gone.
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
        return AWAY
    return ""
