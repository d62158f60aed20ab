"""What `speed.py` and `large.py` found, as a table, as JSON and as a page."""

import os
import platform
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a figure is to reach: at most or at least a number, or so many times another system's figure."""

    at_least: bool = False
    value: float | None = None
    celery: float | None = None
    aegra: float | None = None

    def _factors(self) -> list[tuple[str, float]]:
        factors = (("celery", self.celery), ("aegra", self.aegra))
        return [(name, factor) for name, factor in factors if factor is not None]

    def text(self) -> str:
        """For people."""
        sign = "≥" if self.at_least else "≤"
        parts = [] if self.value is None else [f"{sign} {self.value:g}"]
        parts += [
            f"{sign} {factor:g} x {name}" for name, factor in (("celery", self.celery), ("aegra", self.aegra)) if factor
        ]
        return ", ".join(parts)

    def met(self, hearth: float, others: dict[str, float]) -> bool | None:
        """Whether it is reached; `None` where what it is compared with is missing."""
        bounds = [] if self.value is None else [self.value]
        for name, factor in self._factors():
            if name not in others:
                return None
            bounds.append(factor * others[name])
        return all(hearth >= bound if self.at_least else hearth <= bound for bound in bounds)


# By the beginning of the figure's name, where * is anything.
TARGETS = {
    "accepted, p50, 1 at": Target(celery=1),
    "accepted, p99, 1 at": Target(celery=1),
    "accepted, p50, 32 at": Target(celery=1, aegra=1 / 6),
    "accepted, p99, 32 at": Target(celery=0.5),
    "accepted to first": Target(celery=0.5),
    "runs per second, 4 ": Target(at_least=True, celery=2, aegra=6),
    "runs per second, 64 ": Target(at_least=True, celery=3, aegra=6),
    "memory of the workers, 64": Target(celery=0.5),
    "time to first token": Target(value=15),
    "delay per token at 50/s, p99": Target(value=10),
    "tokens per second": Target(at_least=True, value=5000),
    "200 streams, delay per token, most": Target(value=250),
    "history by *, p99": Target(value=50),
    "history, page 1,000 beside page 1": Target(value=1.5),
    "search *as it is, recall": Target(at_least=True, value=0.95),
    "search among *, as it is, speed": Target(at_least=True, value=10),
    "a task * beside": Target(value=1.5),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure."""

    name: str
    unit: str
    hearth: float | None
    celery: float | None
    aegra: float | None
    target: str | None
    met: bool | None

    @classmethod
    def of(cls, name: str, figures: dict[str, float]) -> "Row":
        """The row of these figures by system."""
        unit = re.search(r" \((\w+)\)$", name)
        target = next((t for start, t in TARGETS.items() if fnmatchcase(name, f"{start}*")), None)
        hearth = figures.get("hearth")
        return cls(
            name=name.removesuffix(unit.group(0)) if unit else name,
            unit=unit.group(1) if unit else "1/s",
            hearth=hearth,
            celery=figures.get("celery"),
            aegra=figures.get("aegra"),
            target=target.text() if target else None,
            met=target.met(hearth, figures) if target and hearth is not None else None,
        )

    def cells(self) -> list[str]:
        """For a table."""
        shown = ["" if v is None else number(v) for v in (self.hearth, self.celery, self.aegra)]
        met = {None: "", True: "yes", False: "no"}[self.met]
        return [f"{self.name} ({self.unit})", *shown, self.target or "", met]


def number(value: float) -> str:
    """For people: three digits at least, and never more than one after the point where there are two before it."""
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"


HEAD = ["what", "Hearth", "FastAPI + Celery", "Aegra", "to reach", "reached"]


def table(rows: list[Row]) -> str:
    """A Markdown table."""
    lines = [HEAD, ["---"] + ["---:"] * 3 + ["---"] * 2, *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def machine() -> str:
    """What this ran on, in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "processor unknown")
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}"


def merged(known: list[Row], found: list[Row]) -> list[Row]:
    """All rows in their order, those that were found in the place of those of the same names, new ones at the end."""
    return list({row.name: row for row in (*known, *found)}.values())


def write(rows: list[Row], *, dry: bool) -> None:
    """Prints the table; writes the results where it is no trial: in the place of those of the same names."""
    sys.stdout.write(table(rows))
    if dry:
        return
    known = [Row(**row) for row in orjson.loads(RESULTS.read_bytes())] if RESULTS.exists() else []
    RESULTS.write_bytes(orjson.dumps(merged(known, rows), option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.write(f"{machine()}, {datetime.now(UTC):%Y-%m-%d}\n")
