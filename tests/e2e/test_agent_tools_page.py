"""The walk in docs/agent-tools.md, as a reader pastes it."""

import asyncio
import os
import re
from pathlib import Path

from system.instance import Instance

PAGE = Path(__file__).parents[2] / "docs" / "agent-tools.md"


async def test_the_walk(hearth: Instance) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-eu", "-o", "pipefail", "-c", block),
        env={**os.environ, "HEARTH": hearth.url, "no_proxy": "*"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    said = out.decode()
    assert '"content":"42"' in said
    assert '"is_healthy":true' in said
    assert '"tools":[{"name":"sums"' in said
    assert '"tool_config":{"allow":["api.example.com/v2/"],"headers":{"Authorization":"********"}}' in said
    assert "sk-0123456789" not in said
