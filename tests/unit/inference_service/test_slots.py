"""The fair queue: round robin between keys, in order within one, bounded, and left by those who give up."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hearth_runtime.errors import ModelOverloaded
from inference_service.slots import FairSlots


class Crowd:
    """Asks for places and notes in which order they were given."""

    def __init__(self, slots: FairSlots) -> None:
        self.order: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = slots
        self._leave: dict[str, asyncio.Event] = {}

    async def ask(self, name: str) -> None:
        """`name` is its key and a number: "a1"."""
        self._leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name))
        await asyncio.sleep(0)

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)

    async def _hold(self, name: str) -> None:
        with self._slots.place(name[0]) as turn:
            await turn
            self.order.append(name)
            await self._leave[name].wait()


async def test_no_more_than_the_limit_at_once() -> None:
    slots = FairSlots(2, queue=10)
    crowd = Crowd(slots)
    for name in ("a1", "a2", "a3"):
        await crowd.ask(name)
    assert (slots.active, slots.waiting, crowd.order) == (2, 1, ["a1", "a2"])
    await crowd.leave("a2")
    assert (slots.active, slots.waiting, crowd.order) == (2, 0, ["a1", "a2", "a3"])
    await crowd.leave("a1")
    await crowd.leave("a3")
    assert (slots.active, slots.waiting) == (0, 0)


async def test_keys_in_turn_and_in_order_within_a_key() -> None:
    crowd = Crowd(FairSlots(1, queue=10))
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        await crowd.ask(name)
    for _ in range(7):
        await crowd.leave(crowd.order[-1])
    assert crowd.order == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_a_full_queue_refuses_the_longest_line() -> None:
    slots = FairSlots(1, queue=3)
    crowd = Crowd(slots)
    for name in ("a0", "a1", "a2", "a3", "a4"):
        await crowd.ask(name)
    with pytest.raises(ModelOverloaded, match=r"HEARTH_MODEL_QUEUE"):
        await crowd.tasks["a4"]
    await crowd.ask("b1")
    with pytest.raises(ModelOverloaded):
        await crowd.tasks["a3"]
    await crowd.ask("b2")
    with pytest.raises(ModelOverloaded):
        await crowd.tasks["b2"]
    assert (slots.active, slots.waiting) == (1, 3)
    for _ in range(4):
        await crowd.leave(crowd.order[-1])
    assert crowd.order == ["a0", "a1", "b1", "a2"]
    assert (slots.active, slots.waiting) == (0, 0)


async def test_no_queue_at_all() -> None:
    slots = FairSlots(1, queue=0)
    with slots.place("a"), pytest.raises(ModelOverloaded), slots.place("b"):
        pass
    assert (slots.active, slots.waiting) == (0, 0)


async def test_who_gives_up_leaves_the_line() -> None:
    slots = FairSlots(1, queue=10)
    crowd = Crowd(slots)
    for name in ("a1", "a2", "b1"):
        await crowd.ask(name)
    crowd.tasks["a2"].cancel()
    await asyncio.sleep(0)
    assert slots.waiting == 1
    await crowd.leave("a1")
    assert crowd.order == ["a1", "b1"]
    await crowd.leave("b1")
    assert (slots.active, slots.waiting) == (0, 0)


async def test_a_slot_given_to_one_who_is_just_giving_up_is_passed_on() -> None:
    slots = FairSlots(1, queue=10)
    crowd = Crowd(slots)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_Held(slots))
        await crowd.ask("a1")
        await crowd.ask("b1")
        crowd.tasks["a1"].cancel()  # which it hears of after the slot was given away
    await asyncio.gather(crowd.tasks["a1"], return_exceptions=True)
    await asyncio.sleep(0)
    assert crowd.order == ["b1"]
    await crowd.leave("b1")
    # And the other way round: the slot first.
    async with _Held(slots):
        await crowd.ask("a2")
    crowd.tasks["a2"].cancel()
    await asyncio.gather(crowd.tasks["a2"], return_exceptions=True)
    assert (slots.active, slots.waiting) == (0, 0)


class _Held:
    def __init__(self, slots: FairSlots) -> None:
        self._place = slots.place("x")

    async def __aenter__(self) -> None:
        assert self._place.__enter__().done()

    async def __aexit__(self, *_: object) -> None:
        self._place.__exit__(None, None, None)
