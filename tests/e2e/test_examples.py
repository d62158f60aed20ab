"""The examples, as a user starts them."""

import asyncio
import json
import os
import sys
from pathlib import Path

from system.instance import Instance

EXAMPLES = Path(__file__).parents[2] / "examples"


async def run(hearth: Instance, name: str, *arguments: str, answers: str = "") -> str:
    """What the example prints, whose user types `answers`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLES / f"{name}.py",
        *arguments,
        env={**os.environ, "HEARTH_URL": hearth.url},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate(answers.encode())
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_support_triage_gives_data_that_its_schema_allows(hearth: Instance) -> None:
    data = json.loads(await run(hearth, "support_triage", "I cannot log in to my account."))
    assert set(data) == {"category", "urgency", "summary", "reply"}
    assert data["category"] in ("billing", "bug", "account", "question")
