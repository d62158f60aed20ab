"""The tools of an agent, opened for a run: with the names, the bounds and the secrecy that its rows ask for."""

import dataclasses
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from hearth_runtime.errors import FieldViolation, HearthError

from agent_service.agent_tools import AgentTool
from agent_service.secret_fields import MARKER
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec, distinct_names
from agent_service.tool_kinds import ToolKinds

# What is shorter would be found in any text.
LEAST_HIDDEN_CHARACTERS = 6


@asynccontextmanager
async def open_tools(
    row: AgentTool, kinds: ToolKinds, scope: ToolScope, host: ToolHost
) -> AsyncIterator[tuple[Tool, ...]]:
    """What this tool of the agent gives a run: one tool, or those of a server or a document.

    A tool that is called as its kind is called as the row instead, with the row's description. Any other keeps its
    name, with the row's before it unless that is the kind's: `github_create_issue`. No secret of the row comes out, in
    a result, a warning or an error. Raises ToolKindNotFound, InvalidArgument and Unavailable.
    """
    hidden = _Hidden(row.secrets)
    scope = dataclasses.replace(scope, timeout_seconds=row.timeout_seconds)
    if (warn := scope.warn) is not None:

        async def warn_of_row(message: str, code: str) -> None:
            await warn(hidden.out_of(f"{row.name}: {message}"), code)

        scope = dataclasses.replace(scope, warn=warn_of_row)
    with hidden.kept():
        async with kinds.get(row.tool_name).open(row.tool_config, scope, host) as given:
            # The row's name before a long one makes it longer than a name may be.
            names = distinct_names([_name(tool.spec, row) for tool in given])
            yield tuple(
                _RowTool(tool, _spec(tool.spec, name, row), hidden) for tool, name in zip(given, names, strict=True)
            )


def _name(spec: ToolSpec, row: AgentTool) -> str:
    if spec.name == row.tool_name:
        return row.name
    return spec.name if row.name == row.tool_name else f"{row.name}_{spec.name}"


def _spec(spec: ToolSpec, name: str, row: AgentTool) -> ToolSpec:
    return dataclasses.replace(
        spec,
        name=name,
        description=row.description if spec.name == row.tool_name and row.description else spec.description,
        needs_approval=spec.needs_approval if row.needs_approval is None else row.needs_approval,
        timeout_seconds=row.timeout_seconds or spec.timeout_seconds,
        result_characters=row.result_characters or spec.result_characters,
    )


class _RowTool:
    """A tool as a row of the agent's has it."""

    def __init__(self, tool: Tool, spec: ToolSpec, hidden: "_Hidden") -> None:
        self._tool = tool
        self._spec = spec
        self._hidden = hidden

    @property
    def spec(self) -> ToolSpec:
        return self._spec

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        with self._hidden.kept():
            result = await self._tool.call(arguments, call_id=call_id)
        return dataclasses.replace(
            result, content=self._hidden.out_of(result.content), data=self._hidden.out_of(result.data)
        )


class _Hidden:
    """Texts that others may send back, as a server does that echoes its request, and that nobody is to see."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        # What follows the first word too: of `Bearer sk-…` a server may tell the key alone.
        parts = {part.strip() for text in texts for part in (text, text.strip().partition(" ")[2])}
        # The longest first: one may be a part of another.
        self._texts = sorted((p for p in parts if len(p) >= LEAST_HIDDEN_CHARACTERS), key=len, reverse=True)

    def out_of(self, value: Any) -> Any:
        """The JSON value with a marker in the place of each of the texts."""
        if not self._texts:
            return value
        match value:
            case str():
                for text in self._texts:
                    value = value.replace(text, MARKER)
                return value
            case dict():
                return {self.out_of(name): self.out_of(item) for name, item in value.items()}
            case list():
                return [self.out_of(item) for item in value]
            case _:
                return value

    @contextmanager
    def kept(self) -> Iterator[None]:
        """An error that shows one of the texts is raised without it, and without what it came from."""
        try:
            yield
        except HearthError as error:
            if not self._shows(error):
                raise
            fields = [FieldViolation(field=f.field, message=self.out_of(f.message)) for f in error.fields]
            raise type(error)(
                self.out_of(error.detail),
                fields=fields,
                metadata=self.out_of(error.metadata),
                retry_after_seconds=error.retry_after_seconds,
            ) from None
        except Exception as error:
            if not self._shows(error):
                raise
            raise RuntimeError(f"{type(error).__name__}: {self.out_of(str(error))}") from None

    def _shows(self, error: BaseException | None) -> bool:
        """Whether a log of the error would show one of the texts."""
        if error is None:
            return False
        said = [str(error)]
        if isinstance(error, HearthError):
            said += [error.detail, *(f.message for f in error.fields), *error.metadata.values()]
        inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        return (
            any(text in words for words in said for text in self._texts)
            or self._shows(error.__cause__ or error.__context__)
            or any(self._shows(one) for one in inner)
        )
