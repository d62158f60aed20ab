"""What a run may use."""

import pytest
from agent_service.budgets import DEFAULT_MAX_STEPS, Limits, Spent
from hearth_runtime.agents import Budget


@pytest.mark.parametrize(
    ("spent", "reached"),
    [
        (Spent(steps=2, prompt_tokens=60, completion_tokens=39, tool_calls=3, seconds=9.9), None),
        (Spent(steps=3), "steps"),
        (Spent(prompt_tokens=60, completion_tokens=40), "model_tokens"),
        (Spent(tool_calls=4), "tool_calls"),
        (Spent(seconds=10.0), "seconds"),
    ],
)
def test_the_limit_that_is_reached_is_named(spent: Spent, reached: str | None) -> None:
    limits = Limits.of(Budget(max_steps=3, max_model_tokens=100, max_tool_calls=4, max_seconds=10.0))
    assert limits.reached(spent) == reached


def test_what_is_left_out_is_the_default() -> None:
    limits = Limits.of(None)
    assert limits.reached(Spent(steps=DEFAULT_MAX_STEPS - 1, seconds=1e9)) is None
    assert limits.reached(Spent(steps=DEFAULT_MAX_STEPS)) == "steps"


def test_a_budget_of_no_tool_calls_is_one() -> None:
    assert Limits.of(Budget(max_tool_calls=0)).reached(Spent()) == "tool_calls"


def test_what_steps_spent_adds_up() -> None:
    one = Spent(steps=1, prompt_tokens=2, completion_tokens=3, model_calls=4, tool_calls=5, seconds=0.5)
    assert one + one == Spent(steps=2, prompt_tokens=4, completion_tokens=6, model_calls=8, tool_calls=10, seconds=1.0)
