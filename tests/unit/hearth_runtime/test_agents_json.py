"""The config of an agent, as it lies in its column."""

import dataclasses

from hearth_runtime.agents import AgentConfig

EMPTY = AgentConfig.from_json({})


def test_only_what_is_set_is_stored() -> None:
    assert EMPTY.to_json() == {}
    config = dataclasses.replace(EMPTY, temperature=0.0, seed=0, stop=("x",), output_schema='{"type": "object"}')
    stored = {"temperature": 0.0, "seed": 0, "stop": ("x",), "output_schema": '{"type": "object"}'}
    assert config.to_json() == stored
    assert AgentConfig.from_json(stored) == config


def test_a_field_of_a_later_version_is_passed_over() -> None:
    assert AgentConfig.from_json({"reasoning": "deep", "seed": 1}) == dataclasses.replace(EMPTY, seed=1)
