"""What `/openapi.json` promises, tried with generated requests: no 5xx, and no answer that it does not allow."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from system.instance import Instance

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


@pytest.mark.timeout(240)
async def test_schemathesis_finds_nothing(hearth: Instance, short_folder: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{hearth.url}/openapi.json",
        f"--checks={','.join(CHECKS)}",
        "--phases=examples,coverage,fuzzing",
        "--max-examples=10",
        "--max-time=90",
        "--seed=1",
        "--request-timeout=20",
    ]
    # In a process of its own: the fake model host answers from this one.
    ran = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=short_folder,
        env={**os.environ, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=230,
    )
    assert ran.returncode == 0, ran.stdout[-8000:]
    assert f"Tested: {await operations(hearth.url)}" in ran.stdout, ran.stdout[-2000:]
