"""`docs/reliability.md`, written by the run itself."""

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from chaos.checker import Verdict

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
ZEROS = (
    ("tasks lost", "tasks_lost"),
    ("tasks failed", "tasks_failed"),
    ("finished twice", "tasks_finished_twice"),
    ("events lost", "events_lost"),
    ("log lines lost", "lines_lost"),
    ("events doubled", "events_doubled"),
    ("out of order", "events_out_of_order"),
    ("steps twice", "steps_twice"),
)
HEAD = """# Reliability

Written by `make chaos` ({date}, {cores} cores, Python {python}): real processes of one Hearth, driven from outside over
HTTP, with a scripted model host. Nobody may lose anything: every task that was answered with 202 ends, every event that
was kept is shown to every subscriber once and in order, and no finished step is done again. What each scenario does
stands in `tests/chaos/test_chaos.py`, what is looked at in `tests/chaos/checker.py` and `tests/chaos/knowledge.py`.

"""


@dataclass(kw_only=True)
class Entry:
    """One scenario, as it went."""

    title: str
    what: str
    verdict: Verdict
    kills: int = 0
    notes: list[str] = field(default_factory=list)


class Report:
    """Collects the scenarios of a run."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Prints the scenario and keeps it for the page."""
        self._entries.append(entry)
        print(f"\n{entry.title}: {entry.kills} signals")
        for line in (*entry.verdict.lines(), *entry.notes):
            print(f"  {line}")

    def write(self) -> None:
        """Replaces the page."""
        page = HEAD.format(
            date=datetime.now(UTC).date().isoformat(), cores=os.cpu_count(), python=platform.python_version()
        )
        columns = ["scenario", "tasks", "attempts", "events", "signals", *(name for name, _ in ZEROS), "recovery"]
        page += f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}\n"
        for entry in self._entries:
            verdict = entry.verdict
            cells = [entry.title, verdict.tasks, verdict.attempts, verdict.events, entry.kills]
            cells += [len(getattr(verdict, name)) for _, name in ZEROS]
            page += f"| {' | '.join(str(cell) for cell in [*cells, verdict.recovery])} |\n"
        page += "\nRecovery is the time from a worker's SIGKILL to the next attempt of its task: median / worst.\n"
        for entry in self._entries:
            page += f"\n## {entry.title}\n\n{entry.what}\n\n"
            page += "".join(f"- {line}\n" for line in (*entry.verdict.lines(), *entry.notes))
        PAGE.write_text(page)
