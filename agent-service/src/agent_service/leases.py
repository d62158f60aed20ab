"""The leases of a worker's runs: extended together, in one call however many they are."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from itertools import batched
from typing import Protocol

from hearth_runtime.errors import HearthError
from hearth_runtime.tasks import Task
from loguru import logger

from agent_service.settings import WorkerSettings
from agent_service.storage import LEASES_LIMIT, StoredTasks


class Interruption(Enum):
    """Why an attempt ends before its work does."""

    CANCEL = "cancel"
    OUTDATED = "outdated"
    HAND_OVER = "hand_over"


class Leaseholder(Protocol):
    """An attempt that is under way."""

    @property
    def task(self) -> Task:
        """The task, with the number of the attempt."""

    def interrupt(self, reason: Interruption) -> None:
        """Ends it."""


class Leases:
    """Keeps the leases of those that are `held`, and brings to them what their rows say."""

    def __init__(self, store: StoredTasks, settings: WorkerSettings) -> None:
        self._store = store
        self._settings = settings
        self._holders: set[Leaseholder] = set()

    @contextmanager
    def held(self, holder: Leaseholder) -> Iterator[None]:
        """The lease of this one is kept meanwhile."""
        self._holders.add(holder)
        try:
            yield
        finally:
            self._holders.remove(holder)

    async def run(self) -> None:
        """Extends them until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(self._settings.lease_heartbeat_seconds)
                for holders in batched(tuple(self._holders), LEASES_LIMIT):
                    # Nobody waits for it: where the row of one is locked for long, the leases of the others run on.
                    group.create_task(self._extend(holders))

    async def _extend(self, holders: tuple[Leaseholder, ...]) -> None:
        lease = timedelta(seconds=self._settings.lease_seconds)
        try:
            held = await self._store.extend([holder.task for holder in holders], lease=lease)
        except HearthError as error:
            logger.warning("leases could not be extended", count=len(holders), error=error.detail)
            return
        for holder in holders:
            cancel_requested = held.get((holder.task.id, holder.task.attempt))
            if cancel_requested is None:
                holder.interrupt(Interruption.OUTDATED)
            elif cancel_requested:
                holder.interrupt(Interruption.CANCEL)
