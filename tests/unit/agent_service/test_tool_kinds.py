"""Kinds of tools: what is installed, and what of it is broken."""

from importlib.metadata import EntryPoint

import pytest
from agent_service.tool_kinds import GROUP, ToolKinds
from hearth_runtime.errors import ToolKindNotFound


class Installed(ToolKinds):
    """With entry points of the test's own."""

    def __init__(self, **entry_points: str) -> None:
        super().__init__()
        self._entry_points = {n: EntryPoint(name=n, value=v, group=GROUP) for n, v in entry_points.items()}


def test_each_kind_that_is_installed_can_be_loaded_and_described() -> None:
    kinds = ToolKinds()
    for kind in kinds.all():
        assert kinds.get(kind.name) is kind
        assert kind.description
        assert kind.config_schema["type"] == "object"
        assert kind.config_schema["additionalProperties"] is False
    assert len(kinds.all()) >= 7


def test_a_broken_kind_is_told_of_and_hides_no_other() -> None:
    kinds = Installed(
        calculator="agent_service.builtin.calculator:CalculatorKind",
        absent="no_such_package.tools:Kind",
        wrong="agent_service.builtin.calculator:calculate",
    )
    assert [kind.name for kind in kinds.all()] == ["calculator"]
    for name, words in (("absent", "No module named 'no_such_package'"), ("wrong", "TypeError")):
        with pytest.raises(ToolKindNotFound, match=words):
            kinds.get(name)
    with pytest.raises(ToolKindNotFound, match="There are: absent, calculator, wrong"):
        kinds.get("other")
