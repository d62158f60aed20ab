"""States as clients see and edit them."""

from typing import Any

import pytest
from agent_service.budgets import Spent
from agent_service.checkpointer import StateSerializer
from agent_service.inference import Message, ToolCall
from agent_service.states import SHOWN_CHARACTERS, State
from agent_service.toolbox import Observation, PlannedCall
from hearth_runtime.checkpoints import Checkpoint, TypedBytes
from hearth_runtime.errors import InvalidArgument
from langgraph.types import Send

CALL = PlannedCall(id="act:0:0", tool="clock", arguments={"zone": "UTC"}, how="native")


def state_of(**values: Any) -> State:
    checkpoint = {"channel_values": values, "channel_versions": dict.fromkeys(values, "1"), "v": 4}
    kind, data = StateSerializer().dumps_typed(checkpoint)
    return State.of(
        Checkpoint(
            task_id="t", namespace="", id="1", parent_id=None,
            checkpoint=TypedBytes(type=kind, data=data), metadata={},
        )
    )  # fmt: skip


def patched(state: State, patch: dict[str, Any]) -> dict[str, Any]:
    written = state.patched(patch)
    read: dict[str, Any] = StateSerializer().loads_typed((written.type, written.data))
    return dict(read["channel_values"])


def test_what_follows_is_read_from_the_channels() -> None:
    state = state_of(
        **{
            "a": 1,
            "branch:to:act": None,
            "join:left+right:both": {"left", "right"},
            "join:left+right:later": {"left"},
            "__pregel_tasks": [Send("many", 1), Send("many", 2)],
        }
    )
    assert state.next_steps == ("act", "both", "many", "many")
    assert state.values == {"a": 1}


def test_a_state_is_shown_as_json() -> None:
    shown, is_cut = state_of(
        spent=Spent(steps=1),
        messages=[Message(role="user", content="hi", images=(b"png",))],
        planned=[CALL],
        nothing=None,
        names={"b"},
    ).shown()
    assert not is_cut
    assert shown["spent"]["steps"] == 1
    assert shown["messages"][0] | {"images": ["[3 bytes]"]} == shown["messages"][0]
    assert shown["planned"] == [{"id": "act:0:0", "tool": "clock", "arguments": {"zone": "UTC"}, "how": "native"}]
    assert (shown["nothing"], shown["names"]) == (None, ["b"])


@pytest.mark.parametrize(
    "value",
    ["x" * (2 * SHOWN_CHARACTERS), ["x"] * SHOWN_CHARACTERS, {str(n): n for n in range(SHOWN_CHARACTERS)}],
    ids=["text", "list", "object"],
)
def test_a_large_state_is_cut_and_says_so(value: Any) -> None:
    shown, is_cut = state_of(large=value, after="more").shown()
    assert is_cut
    assert len(str(shown)) < 4 * SHOWN_CHARACTERS
    assert "[cut" in str(shown)


def test_a_state_without_an_end_in_its_depth_is_cut() -> None:
    value: Any = 1
    for _ in range(50):
        value = [value]
    shown, is_cut = state_of(deep=value).shown()
    assert is_cut
    assert "[cut]" in str(shown)


def test_a_patch_merges_and_keeps_what_things_are() -> None:
    seen = Observation(call=CALL, content="noon", is_error=False, data=None)
    state = state_of(
        output={"text": "a", "usage": {"n": 1, "m": 2}}, spent=Spent(steps=1, seconds=2.5), observations=[seen], old=1
    )
    values = patched(
        state,
        {
            "output": {"text": "b", "usage": {"m": None}},
            "spent": {"steps": 3},
            "observations": [
                {
                    "call": {"id": "c", "tool": "clock", "arguments": {}, "how": "plan"},
                    "content": "midnight",
                    "is_error": True,
                    "data": [1],
                }
            ],
            "old": None,
            "unknown": None,
        },
    )
    assert values["output"] == {"text": "b", "usage": {"n": 1}}
    assert values["spent"] == Spent(steps=3, seconds=2.5)
    (observation,) = values["observations"]
    assert observation == Observation(
        call=PlannedCall(id="c", tool="clock", arguments={}, how="plan"), content="midnight", is_error=True, data=[1]
    )
    assert "old" not in values


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"branch:to:act": 1}, "is not in this state, which has: calls, spent"),
        ({"new": 1}, "is not in this state"),
        ({"spent": {"coins": 1}}, "state.spent.coins is not known"),
        ({"calls": [{"name": "a"}]}, "state.calls.0 does not fit"),
        ({"calls": ["a"]}, "state.calls.0 must be an object"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(patch: dict[str, Any], said: str) -> None:
    state = state_of(spent=Spent(), calls=[ToolCall(name="a", arguments={})])
    with pytest.raises(InvalidArgument, match=said):
        state.patched(patch)
