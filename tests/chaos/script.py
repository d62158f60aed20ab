"""What the models "scripted" and "keeper" answer, by what they are asked."""

import json
import re
from typing import Any

from fakes.ollama import called

DRAFT, REVISED, SUMMARY = "A draft.", "A better answer.", "They spoke of boats."
# Long enough that a session of a few turns is due for a summary.
ANSWER = "Noted: " + "a boat is a boat and no ship. " * 20
_BOAT = re.compile(r"I own boat (\d+)")


def fact(number: int) -> str:
    """What the user says, word by word the prompt of a run."""
    return f"I own boat {number}."


def found(number: int) -> str:
    """The fact that the model finds in it."""
    return f"The user owns boat {number}."


def says(body: dict[str, Any]) -> str:
    """What "scripted" answers to a request of Ollama's chat: the schema of the answer tells what is asked for."""
    messages = [message["content"] for message in body["messages"]]
    match body.get("format"):
        case {"properties": {"facts": _}}:
            return json.dumps({"facts": [found(int(number)) for number in _BOAT.findall(messages[-1])]})
        case {"properties": {"steps": {"items": {"properties": {"by": {"enum": [first, *_]}}}}}}:
            # Two side by side, then one that needs both.
            needs: tuple[list[int], ...] = ([], [], [1, 2])
            return json.dumps({"steps": [{"task": "Look at it.", "by": first, "needs": need} for need in needs]})
        case {"properties": {"met": _}}:
            return json.dumps({"problem": "It is a draft.", "met": REVISED in messages[-1]})
        case {"properties": {"ok": _}}:
            return json.dumps({"problem": "", "ok": True})
    if messages[0].startswith("Summarise"):
        return SUMMARY
    if "a first answer to the message above" in messages[-1]:
        return REVISED
    return DRAFT if messages[-1].startswith("draft") else ANSWER


def keeps(body: dict[str, Any]) -> str | dict[str, Any]:
    """What "keeper" does: it has the fact of the question remembered, recalls what is known, and repeats that."""
    results = [message for message in body["messages"] if message["role"] == "tool"]
    match [message["tool_name"] for message in results]:
        case []:
            (question,) = (message["content"] for message in body["messages"] if message["role"] == "user")
            (number,) = _BOAT.findall(question)
            return called("remember", fact=found(int(number)))
        case ["remember"]:
            return called("recall", query="What does the user own?")
    return str(results[-1]["content"])
