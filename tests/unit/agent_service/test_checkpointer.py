"""What a run's state may hold, and what bytes that somebody else wrote cannot make."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import ormsgpack
import pytest
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.checkpointer import Checkpointer, StateSerializer
from agent_service.inference import Message, ToolCall
from hearth_runtime.channels import open_channel
from hearth_runtime.settings import RuntimeSettings
from hearth_runtime.tasks import Turn
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt, Send


@dataclass(frozen=True, kw_only=True)
class Stranger:
    """A dataclass that no state may hold."""

    name: str


@pytest.mark.parametrize(
    "value",
    [
        [Turn(role="user", content="é\0\N{GRINNING FACE}")],
        AIMessage("hi"),
        Send("step", {"turn": Turn(role="user", content="hi")}),
        Message(role="user", content="", images=(b"\xff",), tool_calls=(ToolCall(name="t", arguments={"a": [1]}),)),
        Interrupt(value="may I?", id="1"),
        {"bytes": b"\0\xff", "none": None, "deep": [{"é": 1.5}]},
        None,
        b"\0",
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_state_holds_comes_back_as_it_was(value: object) -> None:
    serializer = StateSerializer()
    assert serializer.loads_typed(serializer.dumps_typed(value)) == value


def test_a_class_that_is_not_listed_comes_back_as_its_fields() -> None:
    written = JsonPlusSerializer().dumps_typed({"stranger": Stranger(name="n")})
    assert StateSerializer().loads_typed(written) == {"stranger": {"name": "n"}}


@pytest.mark.parametrize(
    ("code", "call"),
    [
        (0, ("os", "system", "touch {}")),
        (1, ("os", "system", ("touch {}",))),
        (2, ("subprocess", "run", {"args": ["touch", "{}"]})),
        (3, ("pathlib", "Path", "{}", "touch")),
        (4, ("subprocess", "run", {"args": ["touch", "{}"]})),
        (5, ("subprocess", "run", {"args": ["touch", "{}"]}, "model_validate_json")),
    ],
)
def test_no_bytes_make_a_call(tmp_path: Path, code: int, call: tuple[object, ...]) -> None:
    made = tmp_path / "made"
    filled = ormsgpack.packb(_filled(call, str(made)))
    StateSerializer().loads_typed(("msgpack", ormsgpack.packb({"x": ormsgpack.Ext(code, filled)})))
    assert not made.exists()


@pytest.mark.parametrize("kind", ["pickle", "json", "other"])
def test_no_other_format_is_read(kind: str) -> None:
    data = {
        "pickle": pickle.dumps(Turn(role="user", content="hi")),
        "json": b'{"lc": 2, "type": "constructor", "id": ["pathlib", "Path"], "args": ["x"]}',
        "other": b"",
    }
    with pytest.raises(NotImplementedError):
        StateSerializer().loads_typed((kind, data[kind]))


async def test_versions_of_a_channel_sort_as_text() -> None:
    async with open_channel("storage", "unix:nowhere", RuntimeSettings(listen_address="unix:nowhere")) as channel:
        saver = Checkpointer(StoredCheckpoints(channel), attempt=1)
        versions = [saver.get_next_version(None, None)]
        for _ in range(20):
            versions.append(saver.get_next_version(versions[-1], None))
    assert versions == sorted(set(versions))


def _filled(value: object, path: str) -> object:
    """The value with the path in the place of each `{}`."""
    if isinstance(value, str):
        return value.replace("{}", path)
    if isinstance(value, dict):
        return {key: _filled(item, path) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, path) for item in value]
    return value
