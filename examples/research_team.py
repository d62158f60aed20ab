"""A research team: a lead plans, hands each step to a member by what it is good at, and writes the answer.

    python examples/research_team.py "What should I know before I move to Norway?"

Each step that is handed over is a run of its own, side by side with the others where it needs none of them. While the
lead waits for its members it holds no worker.
"""

import sys

import client

MEMBERS = {
    "facts": ("Collects facts about a place or a thing.", "You list three short facts. No more than 40 words."),
    "advice": ("Gives practical advice.", "You give two short pieces of practical advice. No more than 40 words."),
}


def main() -> None:
    question = " ".join(sys.argv[1:]) or "What should I know before I visit Norway?"
    members = [
        client.create_agent(name, description, system_prompt=prompt, temperature=0, max_tokens=80)
        for name, (description, prompt) in MEMBERS.items()
    ]
    lead = client.create_agent(
        "lead",
        workflow="team",
        agents=members,
        temperature=0,
        max_tokens=200,
        max_revisions=0,
        system_prompt="You lead a small team and answer briefly.",
    )
    task = client.Run.start(lead, question).watch()
    for step in task["output"]["steps"]:
        print(f"- {step['by']}: {step['task']} ({step['state']})")
    print(task["output"]["text"])


if __name__ == "__main__":
    main()
