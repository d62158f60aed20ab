"""The walk in docs/people-and-teams.md, as a reader pastes it."""

import asyncio
import os
import re
from pathlib import Path

from system.instance import Instance

PAGE = Path(__file__).parents[2] / "docs" / "people-and-teams.md"


async def test_the_walk(hearth: Instance) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-eu", "-o", "pipefail", "-c", block),
        env={**os.environ, "HEARTH": hearth.url, "no_proxy": "*"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(110):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    said = out.decode()
    assert '"kind":"tool_call","name":"look_up_order"' in said
    assert "4711" in said
    assert '"status":"completed"' in said
    assert '"outcome":"waiting"' in said
