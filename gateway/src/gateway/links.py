"""Where to follow a run: the paths of what belongs to it, and its trace where traces can be looked at."""

from dataclasses import dataclass

from hearth.agent.v1 import task_pb2

from gateway.schemas.tasks import RunLinks

TRACE_ID = "{trace_id}"


@dataclass(frozen=True, kw_only=True)
class Links:
    """`trace_url` is the URL of a trace, with TRACE_ID in the place of its id; None where there is none."""

    trace_url: str | None

    def of(self, task: task_pb2.Task) -> RunLinks:
        """Those of the task."""
        path = f"/api/v1/tasks/{task.id}"
        is_traced = task.HasField("trace_id")
        return RunLinks(
            status=f"{path}/status",
            stream=f"/api/v1/logs/stream/{task.id}",
            events=f"/api/v1/ws/tasks/{task.id}",
            logs=f"{path}/logs",
            attempts=f"{path}/attempts",
            cancel=path,
            trace=self.trace_url.replace(TRACE_ID, task.trace_id) if self.trace_url and is_traced else None,
        )
