"""`python -m storage_service.migrate [upgrade|downgrade|current] [REVISION]`: brings the tables to a revision.

`upgrade` goes to the newest and `downgrade` to the one before, if no revision ("0002", "head", "base") is named. It
waits for PostgreSQL, runs alone by an advisory lock, and changes all or nothing.
"""

import argparse
import asyncio
import io
import ssl
import sys
from importlib.resources import files

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from hearth_runtime.settings import load_settings

from storage_service.database import connect, detail_of
from storage_service.settings import StorageSettings

# "hearth" in ASCII: a number that no other program is likely to lock.
LOCK = 0x686561727468
POLL_SECONDS = 0.3


class MigrationError(Exception):
    """Why there was no migration, and what to do."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line, and exits with 1 and one line where it fails."""
    parser = argparse.ArgumentParser(
        prog="python -m storage_service.migrate", description=(__doc__ or "").split(":")[0]
    )
    parser.add_argument("action", nargs="?", default="upgrade", choices=["upgrade", "downgrade", "current"])
    parser.add_argument("revision", nargs="?", default=None, help="0002, head or base")
    options = parser.parse_args(arguments)
    settings = load_settings(StorageSettings)
    try:
        line = asyncio.run(migrate(settings, options.action, options.revision))
    except MigrationError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    sys.stdout.write(f"{line}\n")


async def migrate(settings: StorageSettings, action: str = "upgrade", revision: str | None = None) -> str:
    """Does one action and returns a line about it. Raises MigrationError."""
    try:
        async with asyncio.timeout(settings.migrate_wait_seconds) as waiting:
            connection = await _connect(settings)
            try:
                await _lock(connection)
            except BaseException:
                connection.terminate()
                raise
            # From here on it takes as long as it takes: a long index is not to be cut off.
            waiting.reschedule(None)
    except TimeoutError as error:
        raise MigrationError(
            f"PostgreSQL was not ready within {settings.migrate_wait_seconds:g} seconds. "
            "Check that it runs, that HEARTH_DATABASE_URL names it and that no other migration hangs."
        ) from error
    try:
        return await _apply(connection, action, revision)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise MigrationError(f"The migration failed and changed nothing: {error}") from error
    finally:
        await connection.close(timeout=5)


async def _connect(settings: StorageSettings) -> asyncpg.Connection:
    told = False
    while True:
        try:
            return await connect(
                settings.database_url, timeout=5, server_settings={"application_name": "hearth-migrate"}
            )
        except (
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.ClientConfigurationError,
            ssl.SSLCertVerificationError,
        ) as error:
            raise MigrationError(detail_of(error)) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            if not told:
                sys.stderr.write(f"waiting for PostgreSQL: {detail_of(error)}\n")
            told = True
        await asyncio.sleep(POLL_SECONDS)


async def _lock(connection: asyncpg.Connection) -> None:
    """Takes the lock, which ends with the connection."""
    told = False
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        if not told:
            sys.stderr.write("waiting for another migration to end\n")
        told = True
        await asyncio.sleep(POLL_SECONDS)


async def _apply(connection: asyncpg.Connection, action: str, revision: str | None) -> str:
    current = await _current(connection)
    config = Config()
    config.set_main_option("script_location", str(files("storage_service").joinpath("migrations")))
    config.set_main_option("path_separator", "os")
    revisions = ScriptDirectory.from_config(config)
    head = revisions.get_current_head()
    if action == "current":
        return f"The database is at revision {current or 'base'}; the newest is {head}."
    try:
        target = _target(revisions, action, revision, current)
        script = _script(config, action, current, target)
    except CommandError as error:
        raise MigrationError(f"There is no way from revision {current or 'base'} to {revision}: {error}") from error
    if script:
        async with connection.transaction():
            if current is None:
                # Alembic's script makes this table anew, but a downgrade to base left it, empty.
                await connection.execute("DROP TABLE IF EXISTS alembic_version")
            await connection.execute(script)
    return f"The database is at revision {await _current(connection) or 'base'}."


def _target(revisions: ScriptDirectory, action: str, revision: str | None, current: str | None) -> str:
    if revision == "head" or (revision is None and action == "upgrade"):
        return str(revisions.get_current_head())
    if revision is None and current is not None:
        before = revisions.get_revision(current).down_revision
        return "base" if before is None else str(before)
    if revision not in (None, "base"):
        revisions.get_revision(revision)
    return revision or "base"


def _script(config: Config, action: str, current: str | None, target: str) -> str:
    """The SQL from one revision to the other; empty where there is nothing to do."""
    if target == (current or "base"):
        return ""
    config.output_buffer = written = io.StringIO()
    if action == "upgrade":
        command.upgrade(config, f"{current}:{target}" if current else target, sql=True)
    else:
        command.downgrade(config, f"{current}:{target}", sql=True)
    return written.getvalue()


async def _current(connection: asyncpg.Connection) -> str | None:
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return revision


if __name__ == "__main__":
    main()
