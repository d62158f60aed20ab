"""A worker extends the leases of its runs together, and tells each what its row says."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest
from agent_service import leases as leases_module
from agent_service.leases import Interruption, Leases
from agent_service.settings import WorkerSettings
from hearth_runtime.errors import Unavailable


@dataclass(frozen=True, kw_only=True)
class Attempt:
    id: str
    attempt: int = 1


@dataclass(eq=False)
class Holder:
    task: Any
    reasons: list[Interruption] = field(default_factory=list)

    def interrupt(self, reason: Interruption) -> None:
        self.reasons.append(reason)


class Stored:
    """Rows: of each attempt that counts, whether a cancel was asked for."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], bool] = {}
        self.calls: list[list[str]] = []
        self.failures = 0
        self.going_on = asyncio.Event()
        self.going_on.set()
        self._heard: asyncio.Queue[None] = asyncio.Queue()

    async def extend(self, tasks: Sequence[Any], *, lease: timedelta) -> Mapping[tuple[str, int], bool]:
        assert lease == timedelta(seconds=12)
        self.calls.append([task.id for task in tasks])
        self._heard.put_nowait(None)
        if self.failures:
            self.failures -= 1
            raise Unavailable("away")
        await self.going_on.wait()
        return self.rows

    async def called(self, times: int) -> None:
        """Waits for so many calls more."""
        while not self._heard.empty():
            self._heard.get_nowait()
        async with asyncio.timeout(5):
            for _ in range(times):
                await self._heard.get()


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
async def leases(stored: Stored) -> AsyncIterator[Leases]:
    settings = WorkerSettings(lease_seconds=12, lease_heartbeat_seconds=0.005)
    made = Leases(cast(Any, stored), settings)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_each_run_is_told_what_its_row_says(stored: Stored, leases: Leases) -> None:
    stored.rows = {("a", 1): False, ("b", 1): True, ("c", 2): False}
    a, b, c1, c2, gone = (
        Holder(Attempt(id="a")),
        Holder(Attempt(id="b")),
        Holder(Attempt(id="c", attempt=1)),
        Holder(Attempt(id="c", attempt=2)),
        Holder(Attempt(id="gone")),
    )
    with leases.held(a), leases.held(b), leases.held(c1), leases.held(c2), leases.held(gone):
        await stored.called(2)
    assert sorted(stored.calls[0]) == ["a", "b", "c", "c", "gone"]
    assert [set(holder.reasons) for holder in (a, b, c1, c2, gone)] == [
        set(),
        {Interruption.CANCEL},
        {Interruption.OUTDATED},
        set(),
        {Interruption.OUTDATED},
    ]


async def test_a_run_that_has_ended_is_no_longer_asked_for(stored: Stored, leases: Leases) -> None:
    stored.rows = {("a", 1): False, ("b", 1): False}
    with leases.held(Holder(Attempt(id="a"))):
        with leases.held(Holder(Attempt(id="b"))):
            await stored.called(1)
        await stored.called(2)
    assert stored.calls[-1] == ["a"]


async def test_a_call_that_fails_is_made_again_and_ends_no_run(stored: Stored, leases: Leases) -> None:
    stored.rows = {("a", 1): False}
    stored.failures = 2
    holder = Holder(Attempt(id="a"))
    with leases.held(holder):
        await stored.called(3)
    assert holder.reasons == []


async def test_a_call_that_takes_long_keeps_no_lease_waiting(stored: Stored, leases: Leases) -> None:
    stored.going_on.clear()
    holder = Holder(Attempt(id="gone"))
    with leases.held(holder):
        await stored.called(3)
        assert holder.reasons == []
        stored.going_on.set()
        await stored.called(1)
    assert set(holder.reasons) == {Interruption.OUTDATED}


async def test_many_are_asked_for_in_several_calls(
    stored: Stored, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "LEASES_LIMIT", 2)
    stored.rows = {(name, 1): False for name in "abc"}
    holders = [Holder(Attempt(id=name)) for name in "abc"]
    with leases.held(holders[0]), leases.held(holders[1]), leases.held(holders[2]):
        await stored.called(2)
    assert sorted(len(call) for call in stored.calls[:2]) == [1, 2]
    assert sorted(stored.calls[0] + stored.calls[1]) == ["a", "b", "c"]
    assert not any(holder.reasons for holder in holders)
