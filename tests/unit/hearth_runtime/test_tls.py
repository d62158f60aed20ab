"""Mutual TLS between services, with an authority made for the test."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hearth.runtime.v1 import runtime_service_pb2, runtime_service_pb2_grpc
from hearth_runtime.channels import open_channel
from hearth_runtime.errors import Unavailable
from hearth_runtime.server import Server
from hearth_runtime.settings import RuntimeSettings
from pydantic import ValidationError
from servers.authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
async def serving(authority: Authority) -> AsyncIterator[RuntimeSettings]:
    """A server that is known as localhost."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    settings = authority.settings("localhost", listen_address=f"127.0.0.1:{port}")
    stopping = asyncio.Event()
    running = asyncio.create_task(Server(settings).run(stopping))
    yield settings
    stopping.set()
    await running


def address(serving: RuntimeSettings) -> str:
    return f"dns:///{serving.listen_address.replace('127.0.0.1', 'localhost')}"


async def ask(settings: RuntimeSettings, where: str) -> None:
    async with open_channel("storage", where, settings) as channel:
        await runtime_service_pb2_grpc.RuntimeServiceStub(channel).CheckDependencies(
            runtime_service_pb2.CheckDependenciesRequest()
        )


async def test_services_of_one_authority_speak(authority: Authority, serving: RuntimeSettings) -> None:
    await ask(authority.settings("gateway"), address(serving))


async def test_who_shows_no_certificate_is_refused(serving: RuntimeSettings) -> None:
    with pytest.raises(Unavailable):
        await ask(RuntimeSettings(rpc_timeout_seconds=1), address(serving))


async def test_who_has_a_certificate_of_another_authority_is_refused(
    authority: Authority, serving: RuntimeSettings, tmp_path: Path
) -> None:
    stranger = Authority.made(tmp_path / "theirs").settings("gateway")
    trusting = stranger.model_copy(update={"tls_ca": authority.folder / "ca.pem"})
    with pytest.raises(Unavailable):
        await ask(trusting, address(serving))


async def test_a_server_that_has_another_name_is_not_believed(authority: Authority, serving: RuntimeSettings) -> None:
    with pytest.raises(Unavailable):
        await ask(authority.settings("gateway"), f"dns:///{serving.listen_address}")


async def test_the_probe_speaks_it_too(authority: Authority, serving: RuntimeSettings) -> None:
    async def probe(**env: str) -> int | None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hearth_runtime.probe", env=os.environ | env, stderr=asyncio.subprocess.DEVNULL
        )
        await process.communicate()
        return process.returncode

    where = {"HEARTH_LISTEN_ADDRESS": serving.listen_address.replace("127.0.0.1", "0.0.0.0")}
    files = {f"HEARTH_{name.upper()}": str(getattr(serving, name)) for name in ("tls_ca", "tls_certificate", "tls_key")}
    assert await probe(**where, **files) == 0
    assert await probe(**where) == 1


def test_half_of_it_is_refused(authority: Authority) -> None:
    with pytest.raises(ValidationError, match="set all or none"):
        RuntimeSettings(tls_ca=authority.folder / "ca.pem")
