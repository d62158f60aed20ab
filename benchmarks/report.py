"""What the benchmarks found: `results.json`, and what docs/performance.md shows of it.

The words of that page are written by hand. From `<!-- figures: accepted; runs per second -->` to the next
`<!-- end -->` stand the figures whose names begin so, from `<!-- plot: NAME -->` a plot, and from `<!-- measured -->`
when and on what it was measured; these are written here, after each benchmark or by `python benchmarks/report.py`.
"""

import os
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
MEASURED = ROOT / "benchmarks" / "measured.json"
PAGE = ROOT / "docs" / "performance.md"

NOT_YET = "Not measured yet.\n"


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
        parts += [f"{sign} {factor:.3g} x {name}" for name, factor in self._factors()]
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
    "runs per second, 4 slots": Target(at_least=True, celery=2, aegra=6),
    "runs per second, 64 slots": Target(at_least=True, celery=3, aegra=6),
    "memory of the workers, 64": Target(celery=0.5),
    "time to first token": Target(value=15),
    "delay per token at 50/s, p99": Target(value=10),
    "tokens per second": Target(at_least=True, value=5000),
    "200 streams, delay per token, most": Target(value=250),
    "processor time per subscriber": Target(celery=1 / 3),
    "Redis connections that read": Target(value=1),
    "log lines persisted per second": Target(at_least=True, celery=10),
    "log lines persisted, of": Target(at_least=True, value=50),
    "second start": Target(value=5),
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
        """The row of these figures by system. The name ends with the unit in brackets, unless that is 1/s."""
        unit = re.search(r" \(([^()]+)\)$", name)
        target = next((t for start, t in TARGETS.items() if fnmatchcase(name, f"{start}*")), None)
        hearth = figures.get("hearth")
        return cls(
            name=name.removesuffix(unit.group(0)) if unit else name,
            unit=unit.group(1) if unit else "1/s",
            hearth=_rounded(hearth),
            celery=_rounded(figures.get("celery")),
            aegra=_rounded(figures.get("aegra")),
            target=target.text() if target else None,
            met=target.met(hearth, figures) if target and hearth is not None else None,
        )

    def cells(self) -> list[str]:
        """For a table."""
        met = {None: "", True: "yes", False: "no"}[self.met]
        shown = ["" if v is None else number(v) for v in (self.hearth, self.celery, self.aegra)]
        return [f"{self.name} ({self.unit})", *shown, self.target or "", met]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def number(value: float) -> str:
    """For people: three digits, and all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


HEAD = ["what", "Hearth", "FastAPI + Celery", "Aegra", "to reach", "reached"]


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, without the columns that none of them fills."""
    cells = [row.cells() for row in rows]
    used = [n for n in range(len(HEAD)) if n < 2 or any(line[n] for line in cells)]
    lines = [HEAD, ["---", *["---:"] * 3, *["---"] * 2], *cells]
    return "".join(f"| {' | '.join(line[n] for n in used)} |\n" for line in lines)


def machine() -> str:
    """What this runs on, in a few words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "processor unknown")
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}"


def load(path: Path = RESULTS) -> list[Row]:
    """What was found so far."""
    return [Row(**fields) for fields in orjson.loads(path.read_bytes())] if path.exists() else []


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """The old rows, those of the same names replaced where they stand, and then the others."""
    rows = {row.name: row for row in old}
    rows.update((row.name, row) for row in new)
    return list(rows.values())


def save(rows: Sequence[Row], *, parts: Sequence[str]) -> None:
    """Keeps these rows, which the parts of a benchmark found just now, beside those of others; writes the page."""
    every = merged(load(), rows)
    RESULTS.write_bytes(orjson.dumps(every, option=orjson.OPT_INDENT_2) + b"\n")
    when = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}"
    measured = {**_measured(), **dict.fromkeys(parts, when)}
    MEASURED.write_bytes(orjson.dumps(measured, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
    write_page(every, measured)


def write_page(rows: Sequence[Row], measured: dict[str, str]) -> None:
    """Writes the generated parts of docs/performance.md again, and draws its plots."""
    from plots import PLOTS

    drawn = [name for name, draw in PLOTS.items() if draw(rows, PAGE.parent / f"performance-{name}.svg")]
    PAGE.write_text(filled(PAGE.read_text(), rows, measured, drawn))


def filled(page: str, rows: Sequence[Row], measured: dict[str, str], plots: Sequence[str]) -> str:
    """The page with what stands between its marks written anew."""

    def block(mark: re.Match[str]) -> str:
        kind, names = mark["kind"], [name.strip() for name in (mark["names"] or "").split(";")]
        match kind:
            case "measured":
                text = _measurements(measured)
            case "figures":
                found = [row for name in names for row in rows if row.name.startswith(name)]
                text = table(list(dict.fromkeys(found))) if found else ""
            case _:
                text = "".join(f"![{name}](performance-{name}.svg)\n" for name in names if name in plots)
        return f"{mark['begin']}\n\n{text or NOT_YET}\n<!-- end -->"

    marks = r"(?P<begin><!-- (?P<kind>measured|figures|plot)(: (?P<names>.*?))? -->)\n.*?<!-- end -->"
    return re.sub(marks, block, page, flags=re.DOTALL)


def _measurements(measured: dict[str, str]) -> str:
    """When and on what, the same once, with the parts of which it is true."""
    lines: dict[str, list[str]] = {}
    for part, when in sorted(measured.items()):
        lines.setdefault(when, []).append(part)
    return "".join(f"- {when}: {', '.join(parts)}\n" for when, parts in sorted(lines.items()))


def _measured() -> dict[str, str]:
    return dict(orjson.loads(MEASURED.read_bytes())) if MEASURED.exists() else {}


if __name__ == "__main__":
    write_page(load(), _measured())
    sys.stdout.write(table(load()))
