"""What a run has used and what it may use."""

from dataclasses import dataclass, fields
from typing import Any

from hearth_runtime.agents import Budget
from hearth_runtime.errors import HearthError

# In an error's metadata.
PROMPT_TOKENS, COMPLETION_TOKENS = "prompt_tokens", "completion_tokens"
DEFAULT_MAX_STEPS = 10
DEFAULT_MAX_MODEL_TOKENS = 200_000
DEFAULT_MAX_TOOL_CALLS = 25
DEFAULT_MAX_REPEATED_CALLS = 1


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What the steps of a run have used so far; `seconds` is time of work."""

    steps: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    seconds: float = 0.0

    @classmethod
    def of_failed(cls, error: HearthError) -> "Spent":
        """What a model call took that ended with this error, as far as its metadata says so."""
        return cls(
            prompt_tokens=int(error.metadata.get(PROMPT_TOKENS, 0)),
            completion_tokens=int(error.metadata.get(COMPLETION_TOKENS, 0)),
            model_calls=1,
        )

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            steps=self.steps + other.steps,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            model_calls=self.model_calls + other.model_calls,
            tool_calls=self.tool_calls + other.tool_calls,
            seconds=self.seconds + other.seconds,
        )


def failed_metadata(prompt_tokens: int, completion_tokens: int) -> dict[str, str]:
    """For an error with which a model call ended: what it took. It is recorded with the error, so a replay counts the
    same."""
    return {PROMPT_TOKENS: str(prompt_tokens), COMPLETION_TOKENS: str(completion_tokens)}


def tightest(own: Budget | None, given: dict[str, Any]) -> Budget | None:
    """An agent's own budget within what its parent's run was given: of each limit the smaller one that is set."""
    if not given:
        return own
    values = {}
    for field in fields(Budget):
        set_ones = [v for v in (getattr(own, field.name, None), given.get(field.name)) if v is not None]
        values[field.name] = min(set_ones, default=None)
    return Budget(**values)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """An agent's budget with Hearth's defaults filled in."""

    steps: int
    model_tokens: int
    tool_calls: int
    repeated_calls: int
    seconds: float | None

    @classmethod
    def of(cls, budget: Budget | None) -> "Limits":
        """The limits of `budget`."""
        budget = budget or Budget()
        return cls(
            steps=_or(budget.max_steps, DEFAULT_MAX_STEPS),
            model_tokens=_or(budget.max_model_tokens, DEFAULT_MAX_MODEL_TOKENS),
            tool_calls=_or(budget.max_tool_calls, DEFAULT_MAX_TOOL_CALLS),
            repeated_calls=_or(budget.max_repeated_calls, DEFAULT_MAX_REPEATED_CALLS),
            seconds=budget.max_seconds,
        )

    def reached(self, spent: Spent) -> str | None:
        """The first limit that is reached, by its name: "steps", "model_tokens", "tool_calls", "seconds"."""
        if spent.steps >= self.steps:
            return "steps"
        if spent.prompt_tokens + spent.completion_tokens >= self.model_tokens:
            return "model_tokens"
        if spent.tool_calls >= self.tool_calls:
            return "tool_calls"
        if self.seconds is not None and spent.seconds >= self.seconds:
            return "seconds"
        return None


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
