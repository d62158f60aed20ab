"""Support triage with structured output: what a message is about, how urgent it is, and a first reply.

    python examples/support_triage.py "My invoice is wrong and I was charged twice!"

The schema's enums hold whatever model answers; a person or a program can act on `data` without reading prose.
"""

import json
import sys

import client

SCHEMA = {
    "type": "object",
    "properties": {
        "category": {"enum": ["billing", "bug", "account", "question"]},
        "urgency": {"enum": ["low", "normal", "high"]},
        "summary": {"type": "string", "maxLength": 160},
        "reply": {"type": "string", "maxLength": 400},
    },
    "required": ["category", "urgency", "summary", "reply"],
    "additionalProperties": False,
}


def main() -> None:
    message = " ".join(sys.argv[1:]) or "My invoice is wrong: I was charged twice this month."
    agent = client.create_agent(
        "support triage",
        system_prompt="You sort messages of customers. Be short, friendly and exact.",
        output_schema=SCHEMA,
        temperature=0,
        max_tokens=300,
    )
    done = client.Run.start(agent, f"Sort this message and draft a first reply:\n{message}").watch()
    print(json.dumps(done["output"]["data"], indent=2))


if __name__ == "__main__":
    main()
