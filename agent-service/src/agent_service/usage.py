"""Who uses Hearth: attempts and tokens by agent, and by the owner for whom it runs, whose name may be empty.

Agents and owners are made by users, and each has rows of its own in the metrics: there are at most MAX_AGENTS.
"""

from hearth_runtime.agents import Agent
from hearth_runtime.metrics import Bounded
from hearth_runtime.principals import current_principal
from prometheus_client import Counter

from agent_service.inference import Done

MAX_AGENTS = 500

ATTEMPTS = Counter(
    "hearth_agent_attempts_total", "Attempts that ended, by agent and outcome", ["agent", "name", "owner", "outcome"]
)
TOKENS = Counter(
    "hearth_agent_tokens_total",
    "Tokens of model calls, by agent and direction: input or output",
    ["agent", "name", "owner", "direction"],
)

_labels = Bounded(MAX_AGENTS)


def count_attempt(agent: Agent, outcome: str) -> None:
    """An attempt of the agent's ended."""
    ATTEMPTS.labels(*_labels_of(agent), outcome).inc()


def count_tokens(agent: Agent, done: Done) -> None:
    """A model answered the agent."""
    labels = _labels_of(agent)
    TOKENS.labels(*labels, "input").inc(done.prompt_tokens)
    TOKENS.labels(*labels, "output").inc(done.completion_tokens)


def _labels_of(agent: Agent) -> tuple[str, ...]:
    principal = current_principal()
    return _labels(agent.id, agent.name, "" if principal is None else principal.owner)
