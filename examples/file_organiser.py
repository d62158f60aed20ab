"""A file organiser that asks before it moves anything.

    python examples/file_organiser.py "Move letter.txt to letters/2026/letter.txt"

The agent may look at its files as it likes; each move waits for your yes. Nothing is held up meanwhile: the run gives
its place back, and outlives a restart of Hearth.
"""

import json
import sys
from typing import Any

import client

FILES = {"letter.txt": "Dear Ann, …", "invoice.txt": "Invoice 7, 12.50", "todo.txt": "buy milk"}


def main() -> None:
    wish = " ".join(sys.argv[1:]) or "Move letter.txt to letters/letter.txt"
    agent = client.create_agent("file organiser", workflow="tools", temperature=0, max_tokens=100)
    client.give_tool(agent, "files", tool_config={"tools": ["files_list", "files_read"]})
    client.give_tool(agent, "files", name="organise", tool_config={"tools": ["files_move"]}, needs_approval=True)
    for path, content in FILES.items():
        try_files(agent, "files_write", path=path, content=content)

    run = client.Run.start(agent, wish)
    task = run.watch()
    while task["status"] == "waiting":
        run.answer([answer_of(pending) for pending in task["pending"]])
        task = run.watch()
    print(task["output"]["text"])
    print("The files now:")
    print(try_files(agent, "files_list"))


def answer_of(pending: dict[str, Any]) -> dict[str, Any]:
    """Asks the person at the keyboard."""
    print(f"May it call {pending['name']} {json.dumps(pending['arguments'])}? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return {"id": pending["id"], "decision": "approve"}
    return {"id": pending["id"], "decision": "reject", "reason": "The owner of the files said no."}


def try_files(agent: str, tool: str, **arguments: str) -> str:
    """What one of the file tools gives."""
    body = {"agent_id": agent, "tool_config": {}, "tool": tool, "arguments": arguments}
    return str(client.call("POST", "/tools/files/try", body)["content"])


if __name__ == "__main__":
    main()
