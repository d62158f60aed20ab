"""The workflows that this worker has: entry points of the group `hearth.workflows`, its own and those of others.

A package adds one by naming a class that is made without arguments and is an `agent_service.workflow.Workflow`:

    [project.entry-points."hearth.workflows"]
    review = "my_package.review:ReviewWorkflow"
"""

from importlib.metadata import EntryPoint, entry_points

from hearth_runtime.errors import WorkflowNotFound

from agent_service.workflow import Workflow

GROUP = "hearth.workflows"
DEFAULT = "chat"


class Workflows:
    """Loads each when it is first asked for."""

    def __init__(self) -> None:
        self._entry_points: dict[str, EntryPoint] = {found.name: found for found in entry_points(group=GROUP)}
        self._loaded: dict[str, Workflow] = {}

    def get(self, name: str | None) -> Workflow:
        """The workflow of this name. Raises WorkflowNotFound, and whatever importing it raises."""
        name = name or DEFAULT
        if name not in self._loaded:
            found = self._entry_points.get(name)
            if found is None:
                known = ", ".join(sorted(self._entry_points))
                raise WorkflowNotFound(
                    f"No workflow {name!r} is installed with this worker, which has: {known}. Install its package with "
                    "the workers and restart them, or choose another in config.workflow."
                )
            self._loaded[name] = found.load()()
        return self._loaded[name]
