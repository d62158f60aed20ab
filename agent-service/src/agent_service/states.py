"""The states of runs as clients see and edit them: JSON, bounded, without what is LangGraph's own."""

import dataclasses
from typing import Any

from hearth_runtime.checkpoints import Checkpoint, TypedBytes
from hearth_runtime.errors import FieldViolation, InvalidArgument

from agent_service.checkpointer import STATE_TYPES, StateSerializer
from agent_service.next_steps import JOIN, NEXT, next_steps

# What of one state is shown, in characters of its texts and a little for each other value.
SHOWN_CHARACTERS = 64_000
VALUE_CHARACTERS = 8
MAX_DEPTH = 20

_SERIALIZER = StateSerializer()


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """A checkpoint as it was written, read."""

    checkpoint: dict[str, Any]

    @classmethod
    def of(cls, stored: Checkpoint) -> "State":
        """The state in the checkpoint."""
        value: dict[str, Any] = _SERIALIZER.loads_typed((stored.checkpoint.type, stored.checkpoint.data))
        return cls(checkpoint=value)

    @property
    def values(self) -> dict[str, Any]:
        """What the steps share, by name."""
        return {name: value for name, value in self.checkpoint["channel_values"].items() if _is_ours(name)}

    @property
    def next_steps(self) -> tuple[str, ...]:
        """The steps that follow; one that follows several times comes as often."""
        return next_steps(self.checkpoint["channel_values"])

    def shown(self) -> tuple[dict[str, Any], bool]:
        """The values as JSON, and whether something was cut from them."""
        showing = _Showing()
        return {name: showing.of(value, 0) for name, value in self.values.items()}, showing.is_cut

    def patched(self, patch: dict[str, Any]) -> TypedBytes:
        """The checkpoint with the values changed as a merge patch says (RFC 7396): the next steps stay what they are.

        Raises InvalidArgument where the patch does not fit what is there.
        """
        values = dict(self.checkpoint["channel_values"])
        for name, change in patch.items():
            if change is None and name not in values:
                continue
            if not _is_ours(name) or name not in self.checkpoint["channel_versions"]:
                known = ", ".join(sorted(self.values)) or "nothing"
                raise _unfit(name, f"is not in this state, which has: {known}")
            if change is None:
                values.pop(name, None)
            else:
                values[name] = _merged(values.get(name), change, name)
        kind, data = _SERIALIZER.dumps_typed({**self.checkpoint, "channel_values": values})
        return TypedBytes(type=kind, data=data)


def _is_ours(channel: str) -> bool:
    return not channel.startswith(("__", NEXT, JOIN))


def _merged(value: Any, patch: Any, path: str) -> Any:
    if isinstance(patch, dict) and isinstance(value, STATE_TYPES):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _made(
            type(value), {name: _field(fields, name, change, path) for name, change in patch.items()}, value, path
        )
    if isinstance(patch, dict):
        merged = dict(value) if isinstance(value, dict) else {}
        for name, change in patch.items():
            if change is None:
                merged.pop(name, None)
            else:
                merged[name] = _merged(merged.get(name), change, f"{path}.{name}")
        return merged
    if isinstance(patch, list) and isinstance(value, list | tuple) and value:
        # A list is replaced whole; its items are again what the items before were.
        kinds = {type(item) for item in value}
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind in STATE_TYPES:
            return [_made(kind, item, None, f"{path}.{place}") for place, item in enumerate(patch)]
    return patch


def _field(fields: dict[str, Any], name: str, change: Any, path: str) -> Any:
    if name not in fields:
        raise _unfit(f"{path}.{name}", f"is not known; there are: {', '.join(sorted(fields))}")
    return None if change is None else _merged(fields[name], change, f"{path}.{name}")


def _made(kind: Any, fields: Any, before: Any, path: str) -> Any:
    if not isinstance(fields, dict):
        raise _unfit(path, "must be an object")
    hints = {field.name: field for field in dataclasses.fields(kind)}
    given = {}
    for name, value in fields.items():
        if name not in hints:
            raise _unfit(f"{path}.{name}", f"is not known; there are: {', '.join(sorted(hints))}")
        nested = next((t for t in STATE_TYPES if hints[name].type in (t, t.__name__)), None)
        given[name] = _made(nested, value, None, f"{path}.{name}") if nested and isinstance(value, dict) else value
    try:
        return kind(**given) if before is None else dataclasses.replace(before, **given)
    except TypeError as error:
        raise _unfit(path, f"does not fit: {error}") from error


def _unfit(path: str, message: str) -> InvalidArgument:
    field = f"state.{path}"
    return InvalidArgument(f"{field} {message}.", fields=[FieldViolation(field=field, message=message)])


class _Showing:
    """Makes JSON of values, as much as there is room for."""

    def __init__(self) -> None:
        self._room = SHOWN_CHARACTERS
        self.is_cut = False

    def of(self, value: Any, depth: int) -> Any:
        self._room -= VALUE_CHARACTERS
        if self._room < 0 or depth > MAX_DEPTH:
            self.is_cut = True
            return "[cut]"
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self._text(value)
            case bytes():
                return f"[{len(value)} bytes]"
            case dict():
                return self._items({self._text(str(name)): item for name, item in value.items()}, depth)
            case list() | tuple() | set() | frozenset():
                return self._list(list(value), depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._items({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, depth)
        return f"[{type(value).__name__}]"

    def _text(self, value: str) -> str:
        if len(value) > self._room:
            self.is_cut = True
            kept = max(self._room, 0)
            value = f"{value[:kept]}[cut: {len(value) - kept} characters]"
            self._room = 0
        else:
            self._room -= len(value)
        return value

    def _items(self, items: dict[str, Any], depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for name, item in items.items():
            if self._room < 0:
                self.is_cut = True
                break
            shown[name] = self.of(item, depth + 1)
        return shown

    def _list(self, items: list[Any], depth: int) -> list[Any]:
        shown: list[Any] = []
        for item in items:
            if self._room < 0:
                self.is_cut = True
                break
            shown.append(self.of(item, depth + 1))
        return shown
