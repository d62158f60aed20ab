"""What follows for the tasks above and below when one changes: doorbells, ends to tell, runs to stop."""

from collections.abc import Iterable

from hearth_runtime.tasks import TaskStatus

from agent_service.bell import Bell
from agent_service.publisher import EventPublisher, RunEvents
from agent_service.tasks import DueTask


class TaskTree:
    """Follows up what storage changed beside the task that it was asked to change. What gets lost here comes later: the
    dispatcher rings again, a worker's heartbeat brings it a cancel, and the outbox tells of ends."""

    def __init__(self, bell: Bell, publisher: EventPublisher) -> None:
        self._bell = bell
        self._publisher = publisher

    async def follow(self, affected: Iterable[DueTask]) -> None:
        """Rings for each task that is pending, tells of each that has ended, stops each that runs."""
        for found in affected:
            task = found.task
            match task.status:
                case TaskStatus.PENDING:
                    await self._bell.ring(task.id, queue=task.queue)
                case TaskStatus.RUNNING:
                    await self._bell.tell_cancel(task.id)
                case _:
                    events = RunEvents(
                        self._publisher,
                        task_id=task.id,
                        agent_id=task.agent_id,
                        attempt=task.attempt,
                        traceparent=found.traceparent,
                        root_task_id=task.root_task_id,
                        owner=task.owner,
                    )
                    await events.ended(task)
