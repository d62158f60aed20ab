"""PostgreSQL and Redis by TLS, as managed ones are reached: with an authority that is checked, and refused without."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from agent_service.bell import Bell, broker_of
from agent_service.settings import ApiSettings
from hearth_runtime.errors import Unavailable
from hearth_runtime.redis_streams import connect, redis_dependency, tasks_stream
from hearth_runtime.tasks import RUNS
from redis.exceptions import RedisError
from servers.authority import Authority
from servers.redis_server import RedisServer
from servers.tls_front import tls_front
from storage_service.database import UNTRUSTED, open_database, postgresql_dependency
from storage_service.migrate import MigrationError, migrate
from storage_service.settings import StorageSettings


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture(scope="module")
async def postgres_port(authority: Authority, postgres_url: str) -> AsyncIterator[int]:
    (folder,) = parse_qs(urlsplit(postgres_url).query)["host"]
    front = tls_front(Path(folder) / ".s.PGSQL.5432", authority.server_context("localhost"), is_postgresql=True)
    async with front as port:
        yield port


@pytest.fixture(scope="module")
async def redis_port(authority: Authority, redis_server: RedisServer) -> AsyncIterator[int]:
    async with tls_front(redis_server.socket, authority.server_context("localhost")) as port:
        yield port


def database_url(port: int, ca: Path, *, host: str = "localhost", mode: str = "verify-full") -> str:
    return f"postgresql://postgres@{host}:{port}/postgres?sslmode={mode}&sslrootcert={ca}"


async def test_postgresql_is_reached_by_tls(authority: Authority, postgres_port: int) -> None:
    settings = StorageSettings(database_url=database_url(postgres_port, authority.file))
    assert "The database is at revision" in await migrate(settings, "current")
    async with open_database(settings) as database:
        (row,) = await database.fetch("SELECT 1 AS one")
        assert row["one"] == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_postgresql_that_shows_no_trusted_certificate_is_refused(
    authority: Authority, stranger: Authority, postgres_port: int, host: str
) -> None:
    """Of another authority, or for another host."""
    ca = stranger.file if host == "localhost" else authority.file
    settings = StorageSettings(database_url=database_url(postgres_port, ca, host=host))
    async with open_database(settings) as database:
        with pytest.raises(Unavailable) as caught:
            await postgresql_dependency(database).probe()
        assert caught.value.detail == UNTRUSTED
    with pytest.raises(MigrationError, match="is not to be trusted"):
        await migrate(settings, "current")


async def test_redis_is_reached_by_tls(authority: Authority, redis_port: int, redis: Any) -> None:
    url = f"rediss://localhost:{redis_port}/0?ssl_ca_certs={authority.file}"
    async with connect(url) as client:
        await redis_dependency(client, required=True).probe()
        broker = broker_of(ApiSettings(redis_url=url))
        await broker.connect()
        assert await Bell(broker, client).ring("0199f0a4-5b1e-7c3a-9d2e-6f1a2b3c4d5e", queue="runs")
        await broker.stop()
    assert await redis.xlen(tasks_stream(RUNS)) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_redis_that_shows_no_trusted_certificate_is_refused(
    authority: Authority, stranger: Authority, redis_port: int, redis: Any, host: str
) -> None:
    ca = stranger.file if host == "localhost" else authority.file
    url = f"rediss://{host}:{redis_port}/0?ssl_ca_certs={ca}"
    async with connect(url) as client:
        with pytest.raises(RedisError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.ping()
        broker = broker_of(ApiSettings(redis_url=url))
        await broker.connect()
        assert not await Bell(broker, client).ring("0199f0a4-5b1e-7c3a-9d2e-6f1a2b3c4d5e", queue="runs")
        await broker.stop()
