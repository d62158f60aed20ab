"""The kind `files`: tools to list, read, search, write and move text files in a directory of the agent's own."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from agent_service.file_tree import MAX_PATH_CHARACTERS, Entry, FileProblem, FileTree
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec

TOOLS = ("files_list", "files_read", "files_search", "files_write", "files_move")
MAX_CONTENT_CHARACTERS = 200_000
MAX_MATCHES = 50
MAX_SEARCHED_BYTES = 50_000_000
MAX_LISTED = 500
LINE_CHARACTERS = 200


class FileTool:
    """One of them: `act` does it, off the event loop."""

    def __init__(self, spec: ToolSpec, act: Callable[[dict[str, Any]], ToolResult]) -> None:
        self.spec = spec
        self._act = act

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        try:
            return await asyncio.to_thread(self._act, arguments)
        except FileProblem as problem:
            return ToolResult(content=str(problem), is_error=True)
        except OSError as error:  # a full or a broken disk
            return ToolResult(content=f"The files cannot be used: {os.strerror(error.errno or 0)}.", is_error=True)


class FilesKind:
    """`files`."""

    name = "files"
    description = "Lists, reads, searches, writes and moves text files in a directory of the agent's own."
    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "tools": {
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "items": {"enum": list(TOOLS)},
                "description": "Only these; all if left out",
            },
            "max_file_bytes": {"type": "integer", "minimum": 1, "maximum": 10_000_000, "default": 1_000_000},
            "max_total_bytes": {"type": "integer", "minimum": 1, "maximum": 10_000_000_000, "default": 100_000_000},
        },
        "additionalProperties": False,
    }

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        tree = FileTree(
            Path(host.settings.files_home) / scope.agent.id,
            max_file_bytes=config.get("max_file_bytes", 1_000_000),
            max_total_bytes=config.get("max_total_bytes", 100_000_000),
        )
        wanted = config.get("tools", TOOLS)
        yield [tool for tool in _tools(tree) if tool.spec.name in wanted]


def _tools(tree: FileTree) -> list[FileTool]:
    return [_list(tree), _read(tree), _search(tree), _write(tree), _move(tree)]


def _list(tree: FileTree) -> FileTool:
    def act(arguments: dict[str, Any]) -> ToolResult:
        entries = tree.entries(arguments.get("directory", ""))
        return ToolResult(content=_listed(entries), data={"paths": [entry.path for entry in entries[:MAX_LISTED]]})

    spec = _spec(
        "files_list",
        "Lists the files and directories in a directory.",
        {"directory": _path("The directory; empty for the top", default="")},
        required=[],
    )
    return FileTool(spec, act)


def _listed(entries: Sequence[Entry]) -> str:
    lines = [e.path if e.path.endswith("/") else f"{e.path} ({e.size_bytes} bytes)" for e in entries[:MAX_LISTED]]
    if len(entries) > MAX_LISTED:
        lines.append(f"… and {len(entries) - MAX_LISTED} more")
    return "\n".join(lines) or "(empty)"


def _read(tree: FileTree) -> FileTool:
    def act(arguments: dict[str, Any]) -> ToolResult:
        first = arguments.get("first_line", 1)
        lines = tree.read(arguments["path"]).splitlines(keepends=True)
        if first > max(1, len(lines)):
            return ToolResult(content=f"{arguments['path']} has {len(lines)} lines.", is_error=True)
        return ToolResult(content="".join(lines[first - 1 :]))

    spec = _spec(
        "files_read",
        "Reads a text file.",
        {
            "path": _path("The file, such as notes.txt"),
            "first_line": {
                "type": "integer",
                "minimum": 1,
                "default": 1,
                "description": "Where to begin; a long file is cut at its end",
            },
        },
        required=["path"],
    )
    return FileTool(spec, act)


def _search(tree: FileTree) -> FileTool:
    def act(arguments: dict[str, Any]) -> ToolResult:
        wanted = arguments["text"].casefold()
        found: list[str] = []
        searched = 0
        for entry in tree.walk(arguments.get("directory", "")):
            searched += entry.size_bytes
            if searched > MAX_SEARCHED_BYTES:
                found.append(f"(searched no further than {MAX_SEARCHED_BYTES} bytes: name a directory)")
                break
            try:
                lines = tree.read(entry.path).splitlines()
            except FileProblem:
                continue  # no text, or gone meanwhile: nothing is found in it
            for number, line in enumerate(lines, start=1):
                if wanted in line.casefold():
                    found.append(f"{entry.path}:{number}: {line.strip()[:LINE_CHARACTERS]}")
                if len(found) == MAX_MATCHES:
                    return ToolResult(content="\n".join([*found, f"(the first {MAX_MATCHES})"]))
        return ToolResult(content="\n".join(found) or "Nothing was found.")

    spec = _spec(
        "files_search",
        "Finds the lines of all files that contain a text.",
        {
            "text": {"type": "string", "minLength": 1, "maxLength": 200, "description": "The text, in any case"},
            "directory": _path("Only in this directory", default=""),
        },
        required=["text"],
    )
    return FileTool(spec, act)


def _write(tree: FileTree) -> FileTool:
    def act(arguments: dict[str, Any]) -> ToolResult:
        size = tree.write(arguments["path"], arguments["content"])
        return ToolResult(content=f"{arguments['path']} is written: {size} bytes.")

    spec = _spec(
        "files_write",
        "Writes a text file, in the place of what it was.",
        {
            "path": _path("The file, such as notes.txt"),
            "content": {"type": "string", "maxLength": MAX_CONTENT_CHARACTERS, "description": "The whole text"},
        },
    )
    return FileTool(spec, act)


def _move(tree: FileTree) -> FileTool:
    def act(arguments: dict[str, Any]) -> ToolResult:
        moved = tree.move(arguments["path"], arguments["to"])
        path, to = arguments["path"], arguments["to"]
        said = (
            f"{path} is now {to}."
            if moved
            else f"There is no {path}, and there is {to}: it may have been moved before."
        )
        return ToolResult(content=said)

    spec = _spec(
        "files_move",
        "Moves or renames a file.",
        {"path": _path("The file"), "to": _path("Where it is to be, such as letters/june.txt")},
    )
    return FileTool(spec, act)


def _path(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "maxLength": MAX_PATH_CHARACTERS, "description": description, **more}


def _spec(name: str, description: str, properties: dict[str, Any], *, required: list[str] | None = None) -> ToolSpec:
    return ToolSpec(
        name=name,
        description=description,
        parameters={
            "type": "object",
            "properties": properties,
            "required": list(properties) if required is None else required,
            "additionalProperties": False,
        },
        repeatable=True,
    )
