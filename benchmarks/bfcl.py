"""The Berkeley Function Calling Leaderboard's questions and answers, version 4, and its way to compare calls.

The data (Apache-2.0, https://github.com/ShishirPatil/gorilla) is read out of PyPI's wheel `bfcl-eval`, fetched by its
hash and kept in a cache folder. Its checker cannot be imported without thirty other packages, so `is_right` follows the
rules that `bfcl_eval/eval_checker/ast_eval/ast_checker.py` has for Python.
"""

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_service.tool import ToolSpec

PACKAGE = "bfcl-eval==2026.3.23"
WHEEL = "bfcl_eval-2026.3.23-py3-none-any.whl"
SHA256 = "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a"
DATA = "bfcl_eval/data/"

# Its types, which are Python's, and JSON Schema's.
TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
PYTHON_TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A question, the functions as the benchmark has them, and the calls that are right (none for irrelevance)."""

    id: str
    question: str
    functions: Sequence[dict[str, Any]]
    answers: Sequence[dict[str, dict[str, list[Any]]]]

    @property
    def tools(self) -> list[ToolSpec]:
        """The functions as tools; a dot in a name becomes an underscore, as the benchmark does it for hosts that take
        none."""
        return [
            ToolSpec(
                name=tool_name(function["name"]),
                description=function["description"],
                parameters=_json_schema(function["parameters"]),
                repeatable=True,
            )
            for function in self.functions
        ]


def tool_name(name: str) -> str:
    """The name of a function as a tool's."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]


def entries(category: str, cache: Path) -> list[Entry]:
    """The entries of a category, in their order. Downloads the wheel where `cache` has it not yet."""
    wheel = _wheel(cache)
    with zipfile.ZipFile(wheel) as archive:
        name = f"BFCL_v4_{category}.json"
        questions = [json.loads(line) for line in archive.read(DATA + name).splitlines()]
        answers: dict[str, Any] = {}
        answers_name = f"{DATA}possible_answer/{name}"
        if answers_name in archive.namelist():
            answers = {a["id"]: a["ground_truth"] for a in map(json.loads, archive.read(answers_name).splitlines())}
    return [
        Entry(
            id=q["id"],
            question=q["question"][0][-1]["content"],
            functions=q["function"],
            answers=answers.get(q["id"], []),
        )
        for q in questions
    ]


def _wheel(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    wheel = cache / WHEEL
    if not wheel.exists():
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
            wanted.write(f"{PACKAGE} --hash=sha256:{SHA256}\n")
            wanted.flush()
            command = ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(cache)]
            subprocess.run([sys.executable, *command, "-r", wanted.name], check=True)
    return wheel


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in schema.items() if key != "optional"}
    if isinstance(schema.get("type"), str):
        made["type"] = TYPES.get(schema["type"], schema["type"])
    if isinstance(schema.get("properties"), dict):
        made["properties"] = {name: _json_schema(value) for name, value in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        made["items"] = _json_schema(schema["items"])
    return made


def are_right(calls: Sequence[tuple[str, dict[str, Any]]], entry: Entry) -> bool:
    """Whether the calls are those of the answer, each once, in any order."""
    if len(calls) != len(entry.answers):
        return False
    left = list(calls)
    for answer in entry.answers:
        place = next((n for n, call in enumerate(left) if is_right(call, answer, entry.functions)), None)
        if place is None:
            return False
        del left[place]
    return True


def is_right(
    call: tuple[str, dict[str, Any]], answer: dict[str, dict[str, list[Any]]], functions: Sequence[dict[str, Any]]
) -> bool:
    """Whether one call is the answer's: its name, no argument missing or too much, each value one that is allowed."""
    ((name, allowed),) = answer.items()
    given_name, arguments = call
    if given_name != tool_name(name):
        return False
    parameters = next(f["parameters"] for f in functions if f["name"] == name)
    if any(required not in arguments for required in parameters["required"]):
        return False
    if any(name not in arguments and "" not in values for name, values in allowed.items()):
        return False
    return all(
        name in parameters["properties"]
        and name in allowed
        and _value_is_right(value, allowed[name], parameters["properties"][name])
        for name, value in arguments.items()
    )


def _value_is_right(value: Any, allowed: list[Any], schema: dict[str, Any]) -> bool:
    expected = PYTHON_TYPES[schema["type"]]
    if schema["type"] == "float" and type(value) is int:
        value = float(value)
    answer_type = next((type(a) for a in allowed if a != ""), None)
    if type(value) is not expected:
        # A variable stands where a value is expected: its type is the answer's.
        return type(value) is answer_type and value in allowed
    if answer_type is not None and answer_type is not expected:
        return value in allowed
    if expected is dict:
        return _dict_is_right(value, allowed)
    if expected is str:
        return _plain(value) in [_plain(a) for a in allowed if isinstance(a, str)]
    if expected is list:
        return _list_is_right(value, allowed, schema)
    return value in allowed


def _list_is_right(value: Any, allowed: list[Any], schema: dict[str, Any]) -> bool:
    inner = PYTHON_TYPES.get(schema.get("items", {}).get("type", "any"))
    lists = [a for a in allowed if isinstance(a, list)]
    if inner is dict:
        return any(
            len(value) == len(a) and all(_dict_is_right(v, [w]) for v, w in zip(value, a, strict=True)) for a in lists
        )
    if inner is not None and any(type(v) is not inner for v in value):
        inner_types = {type(v) for a in lists for v in a}
        if any(type(v) not in inner_types for v in value):
            return False
    return [_plain(v) for v in value] in [[_plain(v) for v in a] for a in lists]


def _dict_is_right(value: Any, allowed: list[Any]) -> bool:
    if not isinstance(value, dict):
        return False
    return any(
        all(key in a and _plain(item) in [_plain(v) for v in a[key]] for key, item in value.items())
        and all(key in value or "" in values for key, values in a.items())
        for a in allowed
        if isinstance(a, dict)
    )


def _plain(value: Any) -> Any:
    """Texts are compared without case, spaces and some punctuation."""
    return re.sub(r"[ ,./\-_*^]", "", value).lower().replace("'", '"') if isinstance(value, str) else value
