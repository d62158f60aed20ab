"""All processes of one Hearth, as `make run` has them, but with nobody to start them again: the test does."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from hearth_local.home import Home
from hearth_local.parts import Options, Part, database_url, migrations, postgresql, redis, services
from system.instance import free_port
from system.waiting import until

WORKFLOWS = Path(__file__).parent.parent / "workflows"
STOP_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A process that was ended from outside, at a time.time()."""

    name: str
    pid: int
    signal: signal.Signals
    at: float


@dataclass(kw_only=True)
class _Process:
    part: Part
    popen: subprocess.Popen[bytes]


class Fleet:
    """Use it as a context in a thread-free way: `start` and `stop` block, the rest is quick."""

    def __init__(
        self,
        *,
        ollama_url: str,
        workers: int,
        database: Path,
        env: Mapping[str, str] | None = None,
        database_folder_size: str | None = None,
    ) -> None:
        self._stack = ExitStack()
        self._folder = Path(tempfile.mkdtemp(prefix="hearth-chaos-"))
        self.home = Home(self._folder / "home")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.notes = self._folder / "notes"
        self.notes.touch()
        self.kills: list[Kill] = []
        self._database = database
        self._options = Options(port=self.port, workers=workers, ollama_url=ollama_url)
        self._env = dict(env or {})
        self._database_folder_size = database_folder_size
        self._processes: dict[str, _Process] = {}

    def start(self) -> "Fleet":
        """Returns when all are healthy."""
        try:
            self._stack.enter_context(self.home.opened())
            self._mount_database_folder()
            subprocess.run(["cp", "-a", f"{self._database}/.", str(self.home.data / "postgresql")], check=True)
            self._spawn(redis(self.home))
            self._spawn(postgresql(self.home))
            for part in services(self.home, self._options):
                self._spawn(part)
            self.until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends all that is left, and removes its data."""
        for name in reversed(self._processes):
            self.kill(name)
            self._processes[name].popen.wait()
        if self._database_folder_size is not None:
            subprocess.run(["umount", "--lazy", str(self.home.data / "postgresql")], check=False)
        self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def database_url(self) -> str:
        """Where PostgreSQL is."""
        return database_url(self.home)

    @property
    def redis_url(self) -> str:
        """Where Redis is."""
        return f"unix://{self.home.socket('redis')}"

    @property
    def names(self) -> Sequence[str]:
        """All parts, in the order in which they were first started."""
        return tuple(self._processes)

    @property
    def workers(self) -> Sequence[str]:
        """The worker processes."""
        return [name for name in self._processes if name.startswith("worker")]

    def pid(self, name: str) -> int:
        """The id of the part's process."""
        return self._processes[name].popen.pid

    def runs(self, name: str) -> bool:
        """Whether the part's process is there."""
        return self._processes[name].popen.poll() is None

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal to the part; SIGKILL also to the children it has."""
        popen = self._processes[name].popen
        self.kills.append(Kill(name=name, pid=popen.pid, signal=number, at=time.time()))
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(popen.pid)
            children = main.children(recursive=True) if number == signal.SIGKILL else []
            for member in (main, *children):
                with suppress(psutil.NoSuchProcess):
                    member.send_signal(number)

    def start_again(self, name: str) -> None:
        """Starts a part that has ended, or is about to."""
        process = self._processes[name]
        process.popen.wait(timeout=STOP_SECONDS)
        self._spawn(process.part)

    def restart(self, name: str, number: signal.Signals = signal.SIGTERM) -> float:
        """Ends the part in good order and starts it again; tells how many seconds it took to end."""
        started = time.monotonic()
        self.kill(name, number)
        self._processes[name].popen.wait(timeout=STOP_SECONDS)
        seconds = time.monotonic() - started
        self.start_again(name)
        return seconds

    def until_healthy(self, *, seconds: float = 60) -> None:
        """Waits until the gateway says that all is there."""

        def probe() -> bool:
            for name, process in self._processes.items():
                if process.popen.poll() is not None:
                    raise AssertionError(f"{name} ended with {process.popen.returncode}; see {self.home.logs}")
            with suppress(httpx.HTTPError):
                answer = http.get(f"{self.url}/api/v1/health")
                return answer.status_code == 200 and answer.json()["status"] == "ok"
            return False

        # One for all probes: to make it takes long, and that from those who start.
        with httpx.Client(timeout=10, trust_env=False) as http:
            until(probe, seconds=seconds, what="health")

    async def healthy(self, *, seconds: float = 60) -> None:
        """As `until_healthy`, beside other things."""
        await asyncio.to_thread(self.until_healthy, seconds=seconds)

    def memory(self) -> dict[str, float]:
        """The proportional set size of each part with its children, in MiB."""
        sizes: dict[str, float] = {}
        for name, process in self._processes.items():
            with suppress(psutil.NoSuchProcess):
                main = psutil.Process(process.popen.pid)
                family = [main, *main.children(recursive=True)]
                sizes[name] = sum(_pss(member) for member in family) / 2**20
        return sizes

    def _environment(self) -> dict[str, str]:
        return {
            **_inherited(),
            "PYTHONPATH": str(WORKFLOWS),
            "HEARTH_TEST_NOTES": str(self.notes),
            "HEARTH_LOG_STDOUT_LEVEL": "ERROR",
            **self._env,
        }

    def _spawn(self, part: Part) -> None:
        if part.ready_socket is not None:
            part.ready_socket.unlink(missing_ok=True)
        output = part.output or self.home.logs / f"{part.name}.out"
        popen = _popen(part, env={**self._environment(), **part.env, **self._env}, output=output)
        self._processes[part.name] = _Process(part=part, popen=popen)
        if part.name in ("redis", "postgresql"):
            path = part.ready_socket
            assert path is not None
            until(path.exists, what=f"{part.name}'s socket")

    def _mount_database_folder(self) -> None:
        if self._database_folder_size is None:
            return
        folder = self.home.data / "postgresql"
        folder.mkdir()
        options = f"size={self._database_folder_size},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


def make_database(folder: Path) -> Path:
    """Makes a home, and in it a PostgreSQL with Hearth's tables that is ended then: its data, for fleets to copy."""
    home = Home(folder)
    with home.opened():
        part = postgresql(home)
        assert part.ready_socket is not None
        assert part.output is not None
        running = _popen(part, env=_inherited(), output=part.output)
        try:
            until(part.ready_socket.exists, what=f"{part.name}'s socket")
            subprocess.run(migrations(home).argv, env={**_inherited(), **migrations(home).env}, check=True)
        finally:
            running.send_signal(part.stop_signal)
            running.wait(timeout=STOP_SECONDS)
    return home.data / "postgresql"


def _inherited() -> dict[str, str]:
    """The environment without settings of somebody else's, and with compiled modules kept for the next start."""
    foreign = ("HEARTH_", "OLLAMA_", "OTEL_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def _popen(part: Part, *, env: Mapping[str, str], output: Path) -> subprocess.Popen[bytes]:
    with output.open("ab") as file:
        return subprocess.Popen(
            part.argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=part.user,
            extra_groups=[] if part.user is not None else None,
        )


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def can_mount() -> bool:
    """Whether a fleet can have a database folder of a size of its own."""
    with tempfile.TemporaryDirectory(prefix="hearth-chaos-") as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return mounted.returncode == 0
