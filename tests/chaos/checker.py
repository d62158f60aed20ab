"""Looks into the database and at what subscribers saw, and says what was lost, doubled or done twice."""

import signal
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import asyncpg
import orjson
from hearth_test_workflows import LINES, STEPS

from chaos.fleet import Fleet, Kill
from chaos.load import Load, Watched

FINAL = ("completed", "failed", "cancelled")
# Steps that a run takes once; those of a loop come again.
ONCE = {"generate", "answer", "read", "draft", "finish", *STEPS}


@dataclass(kw_only=True)
class Verdict:
    """What must be 0 is `broken`; the rest is counted for the record."""

    tasks_lost: list[str] = field(default_factory=list)  # accepted, and not ended, or not there
    tasks_failed: list[str] = field(default_factory=list)  # ended otherwise than completed
    tasks_finished_twice: list[str] = field(default_factory=list)
    ends_doubled: list[str] = field(default_factory=list)  # status events that tell of an end, beyond one
    events_lost: list[str] = field(default_factory=list)  # kept and not shown, or shown and not kept
    lines_lost: list[str] = field(default_factory=list)  # log lines of finished steps
    events_doubled: list[str] = field(default_factory=list)
    events_out_of_order: list[str] = field(default_factory=list)
    events_of_outdated_attempts: list[str] = field(default_factory=list)  # after the first one of a later attempt
    steps_twice: list[str] = field(default_factory=list)  # begun again after they were finished
    tools_twice: list[str] = field(default_factory=list)  # called again though no attempt was cut off in the call
    requests_failed: list[str] = field(default_factory=list)  # refused for good what should have been accepted
    chunks_wrong: list[str] = field(default_factory=list)  # documents with other chunks than when read in peace
    embedded_twice: list[str] = field(default_factory=list)  # chunks, though no attempt was cut off while embedding
    facts_lost: list[str] = field(default_factory=list)  # told in a run that did not say that it could not keep them
    facts_doubled: list[str] = field(default_factory=list)
    facts_not_recalled: list[str] = field(default_factory=list)  # by the run that had just kept them
    turns_lost: list[str] = field(default_factory=list)  # sessions with other turns than were said
    summaries_lost: list[str] = field(default_factory=list)  # sessions that grew long and have none

    tasks: int = 0
    attempts: int = 0
    events: int = 0
    subscribers: int = 0
    connections: int = 0
    requests_repeated: int = 0
    recoveries: list[float] = field(default_factory=list)  # seconds from a worker's kill to its task's next attempt

    @property
    def broken(self) -> dict[str, list[str]]:
        """What is not as it was promised."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "recoveries"}
        return {name: value for name, value in values.items() if isinstance(value, list) and value}

    @property
    def recovery(self) -> str:
        """Median and worst."""
        if not self.recoveries:
            return "-"
        return f"{statistics.median(self.recoveries):.1f} s / {max(self.recoveries):.1f} s"

    def lines(self) -> list[str]:
        """For people."""
        shown = [f"{self.tasks} tasks in {self.attempts} attempts, {self.events} events kept"]
        if self.subscribers:
            shown.append(f"{self.subscribers} subscribers over {self.connections} connections")
        shown.append(f"{self.requests_repeated} requests repeated by clients")
        if self.recoveries:
            shown.append(f"{len(self.recoveries)} recoveries, median / worst {self.recovery}")
        shown += [f"{name.replace('_', ' ')}: {len(value)}, such as {value[:3]}" for name, value in self.broken.items()]
        return shown

    def hold(self) -> None:
        """Fails where something is broken."""
        assert not self.broken, "\n".join(self.lines())


async def check(fleet: Fleet, load: Load) -> Verdict:
    """Looks once all that was accepted has had its time to end."""
    connection = await asyncpg.connect(fleet.database_url)
    try:
        tasks = {str(row["id"]): row for row in await connection.fetch("SELECT * FROM tasks")}
        attempts = await connection.fetch("SELECT * FROM task_attempts ORDER BY task_id, attempt")
        rows = await connection.fetch(
            "SELECT id, task_id, attempt, kind, context::text, stream_id FROM task_logs ORDER BY stream_ms, stream_seq"
        )
    finally:
        await connection.close()
    verdict = Verdict(
        tasks=len(load.accepted),
        attempts=len(attempts),
        events=len(rows),
        subscribers=len(load.watched),
        connections=sum(watched.connections for watched in load.watched),
        requests_repeated=load.refusals.total,
        requests_failed=load.failures,
    )
    _check_tasks(verdict, load.accepted, tasks, attempts)
    events: dict[str, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        events[str(row["task_id"])].append(row)
    doubled = Counter(str(row["id"]) for row in rows)
    verdict.events_doubled += [event_id for event_id, count in doubled.items() if count > 1]
    for task_id in load.accepted:
        _check_events(verdict, task_id, events[task_id])
    for watched in load.watched:
        _check_watched(verdict, watched, events[watched.task_id])
    _check_notes(verdict, fleet, attempts)
    verdict.recoveries = _recoveries(fleet.kills, attempts)
    return verdict


def _check_tasks(
    verdict: Verdict, accepted: Sequence[str], tasks: dict[str, Any], attempts: Sequence[asyncpg.Record]
) -> None:
    for task_id in accepted:
        status = tasks[task_id]["status"] if task_id in tasks else "not there"
        if status not in FINAL:
            verdict.tasks_lost.append(f"{task_id} is {status}")
        elif status != "completed":
            verdict.tasks_failed.append(f"{task_id}: {tasks[task_id]['error_code']} {tasks[task_id]['error_message']}")
    ended = Counter(str(row["task_id"]) for row in attempts if row["outcome"] in FINAL)
    verdict.tasks_finished_twice += [task_id for task_id, count in ended.items() if count > 1]


def _check_events(verdict: Verdict, task_id: str, rows: Sequence[asyncpg.Record]) -> None:
    ends, newest = 0, 0
    finished: set[str] = set()
    lines: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for row in rows:
        context = orjson.loads(row["context"])
        if row["kind"] == "sub_task":  # of another task's attempt
            continue
        if row["attempt"] < newest:
            verdict.events_of_outdated_attempts.append(f"{task_id} {row['stream_id']}")
        newest = max(newest, row["attempt"])
        if row["kind"] == "status" and context["status"] in FINAL:
            ends += 1
        if row["kind"] == "log" and "line" in context:
            lines[context["step"]].add((row["attempt"], context["line"]))
        if row["kind"] == "step":
            if context["phase"] == "started" and context["step"] in finished & ONCE:
                verdict.steps_twice.append(f"{task_id} {context['step']}")
            if context["phase"] == "finished":
                finished.add(context["step"])
    if ends == 0:
        verdict.events_lost.append(f"{task_id}: its end")
    if ends > 1:
        verdict.ends_doubled.append(task_id)
    for name in STEPS if lines else ():
        whole = Counter(attempt for attempt, _ in lines[name])
        if LINES not in whole.values():
            verdict.lines_lost.append(f"{task_id} {name}")


def _check_watched(verdict: Verdict, watched: Watched, rows: Sequence[asyncpg.Record]) -> None:
    places = [_place(event_id) for event_id in watched.ids]
    verdict.events_out_of_order += [
        f"{watched.task_id} {watched.ids[n + 1]}" for n in range(len(places) - 1) if places[n] > places[n + 1]
    ]
    verdict.events_doubled += [
        f"{watched.task_id} {event_id}" for event_id, count in Counter(watched.ids).items() if count > 1
    ]
    kept = {row["stream_id"] for row in rows}
    shown = {event.id for event in watched.events if event.event != "delta"}
    verdict.events_lost += [f"{watched.task_id} {event_id} was not shown" for event_id in sorted(kept - shown)]
    verdict.events_lost += [f"{watched.task_id} {event_id} was not kept" for event_id in sorted(shown - kept)]
    if watched.end not in FINAL:
        verdict.events_lost.append(f"{watched.task_id}: the stream's end ({watched.end!r})")


def _check_notes(verdict: Verdict, fleet: Fleet, attempts: Sequence[asyncpg.Record]) -> None:
    """A tool call is repeated once at most for each attempt that was cut off."""
    cut = Counter(str(row["task_id"]) for row in attempts if row["outcome"] not in (*FINAL, "waiting"))
    notes = Counter(line for line in fleet.notes.read_text().splitlines() if line)
    extra: Counter[str] = Counter()
    for note, count in notes.items():
        extra[note.split()[0]] += count - 1
    verdict.tools_twice += [f"{task_id}: {count}" for task_id, count in extra.items() if count > cut[task_id]]


def _recoveries(kills: Sequence[Kill], attempts: Sequence[asyncpg.Record]) -> list[float]:
    killed = {str(kill.pid): kill.at for kill in kills if kill.signal == signal.SIGKILL}
    begun = {(row["task_id"], row["attempt"]): row["started_at"].timestamp() for row in attempts}
    seconds = []
    for row in attempts:
        # A worker's id is its host, its process and a random part.
        pid = row["worker_id"].split("-")[-2]
        again = begun.get((row["task_id"], row["attempt"] + 1))
        if row["outcome"] == "worker_lost" and pid in killed and again is not None:
            seconds.append(again - killed[pid])
    return seconds


def _place(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number)
