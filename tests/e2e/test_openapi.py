"""What `/openapi.json` promises, tried with generated requests: no answer that it does not allow, and no 5xx but for
those that `schemathesis.toml` names and explains."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from system.instance import Instance

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


async def operations(url: str) -> int:
    """How many the document has."""
    async with httpx.AsyncClient(trust_env=False) as http:
        document = (await http.get(f"{url}/openapi.json")).json()
    return sum(len(methods) for methods in document["paths"].values())


async def findings(url: str, folder: Path, *options: str) -> str:
    """What schemathesis says, which is to find nothing."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={CONFIGURATION}",
        "run",
        f"{url}/openapi.json",
        f"--checks={','.join(CHECKS)}",
        "--seed=1",
        "--request-timeout=20",
        *options,
    ]
    # In a process of its own: the fake model host answers from this one.
    ran = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=230,
    )
    assert ran.returncode == 0, ran.stdout[-8000:]
    return ran.stdout


@pytest.mark.timeout(240)
async def test_each_operation_keeps_its_promises(hearth: Instance, short_folder: Path) -> None:
    told = await findings(hearth.url, short_folder, "--phases=examples,coverage")
    assert f"Tested: {await operations(hearth.url)}" in told, told[-2000:]


@pytest.mark.timeout(240)
async def test_anything_may_be_sent(hearth: Instance, short_folder: Path) -> None:
    await findings(hearth.url, short_folder, "--phases=fuzzing", "--max-examples=10", "--max-time=20")
