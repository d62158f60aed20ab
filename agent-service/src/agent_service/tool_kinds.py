"""The kinds of tools that agents can be given: entry points of the group `hearth.tools`, Hearth's own and others'.

A package adds one by naming a class that is made without arguments and is an `agent_service.tool.ToolKind`:

    [project.entry-points."hearth.tools"]
    weather = "my_package.weather:WeatherKind"
"""

from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points

from hearth_runtime.errors import ToolKindNotFound
from loguru import logger

from agent_service.tool import ToolKind

GROUP = "hearth.tools"


class ToolKinds:
    """Loads each when it is first asked for."""

    def __init__(self) -> None:
        self._entry_points: dict[str, EntryPoint] = {found.name: found for found in entry_points(group=GROUP)}
        self._loaded: dict[str, ToolKind] = {}

    def get(self, name: str) -> ToolKind:
        """The kind of this name. Raises ToolKindNotFound, also where it cannot be loaded."""
        if name not in self._loaded:
            found = self._entry_points.get(name)
            if found is None:
                known = ", ".join(sorted(self._entry_points)) or "none"
                raise ToolKindNotFound(f"There is no kind of tool {name!r}. There are: {known}.")
            try:
                self._loaded[name] = found.load()()
            except Exception as error:
                logger.opt(exception=error).error("a kind of tool cannot be loaded", kind=name, entry_point=found.value)
                raise ToolKindNotFound(
                    f"The kind of tool {name!r} is installed and cannot be loaded ({type(error).__name__}: {error}). "
                    "Mend its package and restart the processes of agent-service."
                ) from error
        return self._loaded[name]

    def all(self) -> tuple[ToolKind, ...]:
        """Every kind that can be loaded, by their names."""
        kinds = []
        for name in sorted(self._entry_points):
            # One that is broken is in the log, and hides no other.
            with suppress(ToolKindNotFound):
                kinds.append(self.get(name))
        return tuple(kinds)
