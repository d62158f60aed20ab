"""Which steps follow a checkpoint, as LangGraph keeps it in channels of its own."""

from collections.abc import Mapping
from typing import Any

from langgraph.types import Send

# How these channels begin: which step comes next, and what joins several.
NEXT = "branch:to:"
JOIN = "join:"
SENDS = "__pregel_tasks"


def next_steps(channel_values: Mapping[str, Any]) -> tuple[str, ...]:
    """The steps that follow; one that follows several times comes as often."""
    steps: list[str] = []
    for channel, value in channel_values.items():
        if channel.startswith(NEXT):
            steps.append(channel.removeprefix(NEXT))
        elif channel.startswith(JOIN):
            before, _, step = channel.removeprefix(JOIN).rpartition(":")
            steps += [step] if set(value) == set(before.split("+")) else []
        elif channel == SENDS:
            steps += [send.node for send in value if isinstance(send, Send)]
    return tuple(steps)
