"""HEARTH_HOME: where an instance keeps its data, its logs and its sockets."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The longest name below the socket folder is PostgreSQL's lock file.
LONGEST_SOCKET = "pg/.s.PGSQL.5432.lock"
MAX_SOCKET_BYTES = 107


class StartError(Exception):
    """Why Hearth cannot start, in one line that says what to do."""


class Home:
    """The folders of one instance. Use it as a context: it holds the home's lock and its socket folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.data = self.path / "data"
        self.logs = self.path / "logs"
        self.sockets = self.path / "run"

    @contextmanager
    def opened(self) -> Iterator["Home"]:
        """Makes the folders and locks the home. Raises StartError where it cannot."""
        try:
            for folder in (self.path, self.data, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise StartError(
                f"Cannot write to {self.path} ({error.strerror}): choose another home with HEARTH_HOME=FOLDER."
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise StartError(
                    f"Hearth runs already with the home {self.path} (process {lock.read().strip() or 'unknown'}): "
                    "end that one, or choose another home and port with HEARTH_HOME and HEARTH_PORT."
                ) from error
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            with self._socket_folder():
                yield self

    @contextmanager
    def _socket_folder(self) -> Iterator[None]:
        usual = self.path / "run"
        if usual.is_symlink():  # of a start that was killed
            usual.unlink()
        if len(os.fsencode(usual / LONGEST_SOCKET)) <= MAX_SOCKET_BYTES:
            usual.mkdir(mode=0o711, exist_ok=True)
            yield
            return
        with tempfile.TemporaryDirectory(prefix="hearth-") as short:
            self.sockets = Path(short)
            self.sockets.chmod(0o711)
            # Whoever looks for the sockets where they usually are is led there. A folder of sockets is in the way where
            # the home was moved here from a shorter path.
            if usual.is_dir():
                shutil.rmtree(usual)
            usual.symlink_to(short)
            try:
                yield
            finally:
                usual.unlink(missing_ok=True)

    @property
    def has_database(self) -> bool:
        """Whether an earlier start made one."""
        return (self.data / "postgresql").exists()

    def socket(self, name: str) -> Path:
        """The unix socket of the part `name`."""
        return self.sockets / f"{name}.sock"
