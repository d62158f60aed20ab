"""Which recording a run has."""

from agent_service.history_store import StoredHistories
from agent_service.recording import Edited, Live, Recording
from agent_service.replay import Replayed
from agent_service.storage import StoredTasks
from agent_service.tasks import Claim
from agent_service.tool_calls import ToolCalls


async def recording_of(
    claim: Claim, *, journal: ToolCalls, store: StoredTasks, histories: StoredHistories
) -> Recording:
    """A replay's is the record of the run that it does again. Raises HistoryExpired, Unavailable."""
    task = claim.task
    if task.replay_of_task_id is not None:
        origin = await store.get(task.replay_of_task_id)
        return Replayed(await histories.record(origin), origin, attempt=task.attempt)
    return Edited(journal, claim.answers, is_whole=task.attempt == 1) if claim.answers else Live(journal)
