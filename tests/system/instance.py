"""One instance of Hearth, started as `make run` starts it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from system.waiting import until

READY_SECONDS = 60.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Instance:
    """`python -m hearth_local` with a home and a port of its own."""

    def __init__(self, home: Path, *, port: int | None = None, env: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/api/v1"
        self.start_seconds = 0.0
        self._env = dict(env or {})
        self._process: subprocess.Popen[str] | None = None
        self._console = home / "console.log"

    def start(self) -> "Instance":
        """Returns when it says that it is ready."""
        self.home.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        # As a user has it: without settings of somebody else's, and with compiled modules kept for the next start.
        foreign = ("HEARTH_", "OLLAMA_", "OTEL_", "PYTHONDONTWRITEBYTECODE")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        env = {**inherited, "HEARTH_HOME": str(self.home), "HEARTH_PORT": str(self.port), **self._env}
        with self._console.open("w") as console:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hearth_local"], env=env, stdout=console, stderr=subprocess.STDOUT, text=True
            )
        try:
            until(self._ready_or_ended, seconds=READY_SECONDS, what="Hearth is ready")
        except AssertionError as error:
            self.kill()
            raise AssertionError(f"{error}\n{self.console()}") from error
        if self._process.poll() is not None:
            raise AssertionError(f"Hearth ended at its start:\n{self.console()}")
        self.start_seconds = time.monotonic() - started
        return self

    def _ready_or_ended(self) -> bool:
        assert self._process is not None
        return "Hearth is ready" in self.console() or self._process.poll() is not None

    def console(self) -> str:
        """What it has printed."""
        return self._console.read_text() if self._console.exists() else ""

    def stop(self) -> float:
        """Sends what Ctrl-C sends; returns how many seconds it took to end."""
        assert self._process is not None
        started = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"Hearth did not end:\n{self.console()}") from None
        if code != 0:
            raise AssertionError(f"Hearth ended with {code}:\n{self.console()}")
        return time.monotonic() - started

    def kill(self) -> None:
        """Ends it the hard way; its parts die with it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid
