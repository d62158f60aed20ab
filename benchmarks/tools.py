"""How often an agent's model calls the right tool with the right arguments: BFCL v4's multiple, parallel, irrelevance.

    python benchmarks/tools.py             # the embedded SmolLM2-135M, each technique switched off in turn
    python benchmarks/tools.py --host http://localhost:11434 --model qwen3:1.7b --embedding-model nomic-embed-text

The engine was tuned on the first half of `multiple`; its second half and the other categories are only reported.
Answers of the model are kept in the cache folder, so that a second run asks only what is new.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import httpx
from agent_service.tool_choice import ToolChoiceSettings
from agent_service.tool_chooser import choose_tools
from bfcl import Entry, are_right, entries, tool_name
from hearth_runtime.tasks import Turn
from model_host import HostedModel, embedded_server

EMBEDDED, EMBEDDED_VECTORS = "smollm2:135m", "multilingual-e5-small"
TUNED = 100  # so many entries of `multiple` the engine was tuned on
RESULTS = Path(__file__).parent / "results" / "tools.json"

TECHNIQUES = {
    "all": {},
    "without narrowing: the model picks the tool from all names": {"narrowing": False},
    "without two steps: one schema over all tools": {"two_steps": False},
    "without values from the question": {"candidates": False},
    "without the model's pick between values that fit alike": {"margin": 0.0},
    "without leaving out optional arguments": {"omit_optional": False},
    "without 'no tool fits'": {"none_fits": False},
    "without a worked example": {"examples": False},
    "without parallel calls": {"parallel": False},
    "without repair turns": {"repair_turns": 0},
}


@dataclass(frozen=True, kw_only=True)
class Score:
    """Of `count` questions: whole calls that are right, and questions for which the tools are. `answered` had no call.
    `model_calls` were made for them, `how` says how their calls came about."""

    category: str
    technique: str
    count: int
    right: int
    tools_right: int
    answered: int
    model_calls: int
    how: dict[str, int] = field(default_factory=dict)


async def score(
    category: str, technique: str, chosen: Sequence[Entry], model: HostedModel, settings: ToolChoiceSettings
) -> Score:
    """Asks each question, and compares."""
    right = tools_right = answered = 0
    how: dict[str, int] = {}
    before = model.calls
    for entry in chosen:
        choice = await choose_tools([Turn(role="user", content=entry.question)], entry.tools, model, settings=settings)
        calls = [(call.name, call.arguments) for call in choice.calls]
        names = sorted(tool_name(name) for answer in entry.answers for name in answer)
        right += are_right(calls, entry)
        tools_right += sorted(name for name, _ in calls) == names
        answered += not calls
        for call in choice.calls:
            how[call.how] = how.get(call.how, 0) + 1
    return Score(
        category=category,
        technique=technique,
        count=len(chosen),
        right=right,
        tools_right=tools_right,
        answered=answered,
        model_calls=model.calls - before,
        how=how,
    )


@asynccontextmanager
async def opened(options: argparse.Namespace) -> AsyncIterator[HostedModel]:
    """The model that the options name."""
    async with AsyncExitStack() as stack:
        transport = None if options.host else stack.enter_context(embedded_server())
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url=options.host or "http://models", timeout=600)
        )
        shown = await client.post("/api/show", json={"model": options.model})
        if shown.is_error:
            raise SystemExit(f"the host does not know {options.model}: {shown.text[:300]}")
        yield HostedModel(
            client,
            model=options.model,
            embedding_model=options.embedding_model,
            native="tools" in shown.json().get("capabilities", []),
            cache=options.cache / "answers",
        )


def shown_table(scores: Sequence[Score]) -> str:
    """The scores as a Markdown table."""
    head = ("category", "technique", "whole calls right", "right tool", "no call", "model calls")
    rows = [head, ("---",) * len(head)]
    rows += [
        (
            s.category,
            s.technique,
            f"{s.right / s.count:.1%} ({s.right} of {s.count})",
            f"{s.tools_right / s.count:.1%}",
            f"{s.answered / s.count:.1%}",
            str(s.model_calls),
        )
        for s in scores
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


async def run(options: argparse.Namespace) -> None:
    """Runs what the options ask for; prints each figure as it is known, and writes them."""
    multiple, parallel, irrelevance = (entries(c, options.cache) for c in ("multiple", "parallel", "irrelevance"))
    parts = {
        "multiple, first half (tuned on)": multiple[:TUNED],
        "multiple, second half": multiple[TUNED:],
        "parallel": parallel,
        "irrelevance": irrelevance,
    }
    defaults = ToolChoiceSettings()
    plans = [
        (category, technique)
        for technique in TECHNIQUES
        for category in parts
        if technique == "all" or (options.techniques and category == "multiple, second half")
        if not options.category or category in options.category
        if not options.technique or technique in options.technique
    ]
    scores: list[Score] = []
    started = time.monotonic()
    async with opened(options) as model:
        for category, technique in plans:
            settings = replace(defaults, **TECHNIQUES[technique])  # type: ignore[arg-type]
            made = await score(category, technique, parts[category][: options.limit], model, settings)
            scores.append(made)
            print(f"{time.monotonic() - started:6.0f} s  {json.dumps(asdict(made))}", flush=True)
    print(shown_table(scores))
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        body = {
            "model": options.model,
            "embedding_model": options.embedding_model,
            "scores": [asdict(s) for s in scores],
        }
        RESULTS.write_text(json.dumps(body, indent=1) + "\n")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", help="URL of an Ollama; without it the embedded model server is started")
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--embedding-model", default=EMBEDDED_VECTORS)
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/hearth-benchmarks").expanduser())
    parser.add_argument("--category", action="append", help="only this one, as the table names it; may be repeated")
    parser.add_argument("--technique", action="append", help="only this row of the table; may be repeated")
    parser.add_argument("--limit", type=int, help="only so many questions of each category")
    parser.add_argument("--no-techniques", dest="techniques", action="store_false", help="only with all of them on")
    parser.add_argument("--no-write", dest="write", action="store_false", help=f"leave {RESULTS.name} as it is")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which ends the embedded server as well
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
