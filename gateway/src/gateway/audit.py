"""What was done with keys, and tried without the right one: a log line each at once, and a row soon after."""

import asyncio
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hearth.agent.v1 import key_pb2, key_service_pb2
from hearth_runtime.codec import to_message
from hearth_runtime.errors import HearthError
from hearth_runtime.keys import Action
from hearth_runtime.lifecycle import pause
from loguru import logger
from prometheus_client import Counter

if TYPE_CHECKING:
    from hearth.agent.v1.key_service_pb2_grpc import KeyServiceAsyncStub

    from gateway.caller import Caller

ACTIONS = Counter("hearth_key_actions_total", "What was done with keys, by actor", ["actor", "status"])
LOST = Counter("hearth_key_actions_lost_total", "Of these, those that stand in the log alone")

WAITING_LIMIT = 10_000
BATCH = 500
EVERY_SECONDS = 1.0
# Of those who are not known, so many a second: a flood of them is for the counter, not for the table.
STRANGERS_PER_SECOND = 10
TARGET_CHARACTERS = 500


class Audit:
    """Keeps what was done, in the order of its end."""

    def __init__(self, keys: "KeyServiceAsyncStub") -> None:
        self._keys = keys
        self._waiting: deque[Action] = deque(maxlen=WAITING_LIMIT)
        self._strangers = 0

    def note(self, caller: "Caller | None", *, action: str, target: str, status: int, code: str, address: str) -> None:
        """Something was done, or refused."""
        actor = "" if caller is None else caller.actor
        # There are as many keys as were made, and any number of subjects.
        ACTIONS.labels("jwt" if actor.startswith("jwt:") else actor or "nobody", status).inc()
        if caller is None:
            self._strangers += 1
            if self._strangers > STRANGERS_PER_SECOND:
                LOST.inc()
                return
        done = Action(
            at=datetime.now(UTC),
            actor=actor,
            owner="" if caller is None else caller.principal.owner,
            action=action,
            target=target[:TARGET_CHARACTERS],
            status=status,
            code=code,
            address=address,
        )
        logger.info(
            "action", actor=actor, owner=done.owner, action=action, target=done.target, status=status, code=code,
            address=address,
        )  # fmt: skip
        if len(self._waiting) == WAITING_LIMIT:
            LOST.inc()
        self._waiting.append(done)

    async def run(self, stopping: asyncio.Event) -> None:
        """Has them kept until told to stop, and what waits then."""
        while not await pause(stopping, EVERY_SECONDS):
            self._strangers = 0
            await self._keep()
        await self._keep()

    async def _keep(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            request = key_service_pb2.RecordActionsRequest(actions=[to_message(a, key_pb2.Action) for a in batch])
            try:
                await self._keys.RecordActions(request, wait_for_ready=False)
            except HearthError as error:
                logger.debug("what was done is kept later", error=error.detail)
                self._waiting.extendleft(reversed(batch[: WAITING_LIMIT - len(self._waiting)]))
                return
