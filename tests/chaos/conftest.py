"""Chaos: a fast part in every run of the tests, all of it with HEARTH_CHAOS=full (`make chaos`)."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fakes.ollama import Behaviour, FakeOllama, called

from chaos.fleet import Fleet, make_database
from chaos.report import Report
from chaos.script import keeps, says

TOOLS = ("completion", "tools")
FULL = os.environ.get("HEARTH_CHAOS") == "full"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what only the whole run has."""
    if not FULL:
        left_out = [item for item in items if item.get_closest_marker("full_chaos")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    """What the scenarios found. The page is written where all of them ran."""
    report = Report()
    yield report
    if FULL and not request.config.getoption("keyword"):
        report.write()


@pytest.fixture(scope="session")
async def models() -> AsyncIterator[FakeOllama]:
    """A host of scripted models: "quick" and "terse" answer at once, "slow" takes a second or more, "caller"
    calls two tools three times, then answers; "scripted" plans, checks and finds facts, "keeper" remembers and
    recalls one, "passages" embeds."""
    async with FakeOllama() as fake:
        fake.behave("quick", Behaviour(load_seconds=0))
        fake.behave("terse", Behaviour(pieces=("Done.",), load_seconds=0))
        pieces = tuple(f" {n}" for n in range(20))
        fake.behave("slow", Behaviour(pieces=pieces, seconds_between=0.1 if FULL else 0.05, load_seconds=0))
        answer = Behaviour(pieces=pieces[:4], seconds_between=0.1, load_seconds=0, capabilities=TOOLS)
        asking = replace(answer, pieces=(), seconds_before_first=0.5)
        first, second, third = (
            replace(asking, tool_calls=(called("note", word=one), called("note", word=two)))
            for one, two in ("ab", "cd", "ef")
        )
        # Two results after each round.
        fake.behave("caller", replace(first, after_results=(answer, second, answer, third, answer)))
        fake.behave("scripted", Behaviour(says=says, seconds_before_first=0.2, load_seconds=0))
        fake.behave("keeper", Behaviour(says=keeps, seconds_before_first=0.2, load_seconds=0, capabilities=TOOLS))
        fake.behave("passages", Behaviour(seconds_before_first=0.1, capabilities=("embedding",)))
        yield fake


@pytest.fixture(scope="session")
def database() -> Iterator[Path]:
    """The data of a PostgreSQL with Hearth's tables, which each fleet begins with a copy of."""
    with TemporaryDirectory(prefix="hearth-chaos-") as folder:
        yield make_database(Path(folder))


@pytest.fixture
def new_fleet(models: FakeOllama, database: Path) -> Iterator[Callable[..., Fleet]]:
    """Starts a Hearth of its own for the scenario."""
    with ExitStack() as stack:

        def make(**options: Any) -> Fleet:
            fleet = Fleet(**{"ollama_url": models.url, "database": database, "workers": 3, **options})
            fleet.start()
            stack.callback(fleet.stop)
            return fleet

        yield make
