"""A digest of notes, made by an agent on a schedule: start this from cron.

    0 7 * * * python examples/digest.py notes.txt

The agent is made once and found again by its name. Each run reads the notes with a tool, in its own directory, and
answers with a digest; what it did stays in the history.
"""

import sys
import time
from pathlib import Path

import client

NAME = "daily digest"
NOTES = """Monday: the roof was repaired. Tuesday: the new neighbours moved in. Wednesday: rain all day."""


def main() -> None:
    notes = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else NOTES
    agent = agent_id()
    body = {"agent_id": agent, "tool": "files_write", "arguments": {"path": "notes.txt", "content": notes}}
    client.call("POST", "/tools/files/try", {**body, "tool_config": {}})
    task = client.Run.start(agent, "Read notes.txt and write a digest of it in one short paragraph.").watch()
    print(f"Digest of {time.strftime('%A, %d %B')}:\n{task['output']['text']}")


def agent_id() -> str:
    """The agent, made when it is not there yet."""
    found = client.call("GET", f"/agents?name={NAME.replace(' ', '%20')}&is_active=true&limit=1")["items"]
    if found:
        return str(found[0]["id"])
    agent = client.create_agent(NAME, workflow="tools", temperature=0, max_tokens=150)
    client.give_tool(agent, "files", tool_config={"tools": ["files_read"]})
    return agent


if __name__ == "__main__":
    main()
