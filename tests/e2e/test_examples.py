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


async def test_a_digest_is_made_of_notes(hearth: Instance, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("The roof was repaired on Monday.")
    first = await run(hearth, "digest", str(tmp_path / "notes.txt"))
    assert first.startswith("Digest of ")
    # The agent of the first run is found again.
    assert (await run(hearth, "digest", str(tmp_path / "notes.txt"))).startswith("Digest of ")


async def test_a_research_team_answers(hearth: Instance) -> None:
    printed = await run(hearth, "research_team", "What is Norway known for?")
    steps = [line for line in printed.splitlines() if line.startswith("- ")]
    assert steps
    assert all(step.split(":")[0] in ("- facts", "- advice", "- none") for step in steps)


async def test_the_file_organiser_moves_what_its_owner_approves(hearth: Instance) -> None:
    printed = await run(hearth, "file_organiser", "Move letter.txt to letters/letter.txt", answers="y\n" * 20)
    assert "May it call organise_files_move" in printed
    assert "letters/" in printed.split("The files now:")[1]


async def test_questions_about_a_document_are_answered_from_it(hearth: Instance, tmp_path: Path) -> None:
    (tmp_path / "rules.md").write_text("# Rules\n\n## Bicycles\n\nBicycles are parked behind the house.\n")
    assert await run(hearth, "document_questions", str(tmp_path / "rules.md"), "Where are bicycles parked?")
