"""Questions about your documents, answered with citations.

    python examples/document_questions.py handbook.md "How many days of leave are there?"

The document is read once; the agent searches it and cites what it found. A citation that is not in what
was found is dropped and said to be.
"""

import sys
import uuid
from pathlib import Path

import client

HANDBOOK = """# Handbook

## Leave

Everybody has 28 days of leave a year. Ask your lead two weeks before.

## Laptops

A laptop is replaced after four years. Broken ones go to the desk on the second floor.
"""


def main() -> None:
    name, text = "handbook.md", HANDBOOK
    if len(sys.argv) > 2:
        name, text = Path(sys.argv[1]).name, Path(sys.argv[1]).read_text()
    question = sys.argv[-1] if len(sys.argv) > 1 else "How many days of leave are there?"
    upload(name, text)
    agent = client.create_agent(
        "document questions", workflow="tools", temperature=0, max_tokens=120, system_prompt="You answer briefly."
    )
    client.give_tool(agent, "search_documents", tool_config={"collections": ["default"], "limit": 3})
    output = client.Run.start(agent, question).watch()["output"]
    print(output["text"])
    for citation in output.get("citations", []):
        print(f"  {citation['marker']} {citation['name']}: {citation['quote']}")


def upload(name: str, text: str) -> None:
    """Reads the document into the collection `default`, and waits until it can be found."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = f"{head}{text}\r\n--{boundary}--\r\n".encode()
    accepted = client.call("POST", "/documents", body, content_type=f"multipart/form-data; boundary={boundary}")
    client.Run(accepted["task_id"]).watch()


if __name__ == "__main__":
    main()
