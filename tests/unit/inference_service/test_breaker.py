"""The circuit breaker by itself: when it opens, what it lets through, how it finds its way back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hearth_runtime.errors import (
    HearthError,
    ModelHostUnavailable,
    ModelNotFound,
    ModelOutputInvalid,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
)
from inference_service.breaker import Breaker, State
from system.waiting import eventually

NEVER = 1e9


class Probe:
    """A host that answers probes or does not."""

    def __init__(self) -> None:
        self.answers = True
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1
        if not self.answers:
            raise ModelHostUnavailable("It is away.")


@asynccontextmanager
async def breaker_on(probe: Probe, *, first_seconds: float = 0.01, max_seconds: float = 0.02) -> AsyncIterator[Breaker]:
    breaker = Breaker(name="h", probe=probe, failures=3, first_seconds=first_seconds, max_seconds=max_seconds)
    yield breaker
    await breaker.close()


async def fail(breaker: Breaker, error: HearthError | None = None, *, times: int = 1, begun: bool = False) -> None:
    error = error or ModelHostUnavailable("It is broken.")

    async def request() -> None:
        async with breaker.call() as begins:
            if begun:
                begins()
            raise error

    for _ in range(times):
        with pytest.raises(type(error), match=error.detail):
            await request()


async def succeed(breaker: Breaker) -> None:
    async with breaker.call() as begins:
        begins()


async def is_(breaker: Breaker, state: State) -> None:
    async def reached() -> bool:
        return breaker.state is state

    await eventually(reached, seconds=5, what=state)


@pytest.mark.parametrize("error", [ModelHostUnavailable("It is broken."), ModelTimeout("It is broken.")])
@pytest.mark.parametrize("begun", [False, True])
async def test_it_opens_after_failures_in_a_row(error: HearthError, begun: bool) -> None:
    async with breaker_on(Probe(), first_seconds=NEVER, max_seconds=NEVER) as breaker:
        await fail(breaker, error, times=2, begun=begun)
        await succeed(breaker)
        await fail(breaker, error, times=2, begun=begun)
        assert breaker.report().state is State.CLOSED
        assert breaker.report().reason == ""
        await fail(breaker, error, begun=begun)
        assert breaker.report().state is State.OPEN
        report = breaker.report()
        assert report.reason == "It is broken."
        assert report.since_time is not None
        assert report.next_probe_time is not None
        with pytest.raises(
            ModelHostUnavailable, match=r"h is given no requests since \d\d:.*: It is broken\. The next probe is in"
        ) as caught:
            await succeed(breaker)
        assert caught.value.retry_after_seconds is not None
        assert 0 < caught.value.retry_after_seconds <= NEVER
        assert caught.value.retryable


@pytest.mark.parametrize("kind", [ModelRefused, ModelNotFound, ModelOutputInvalid, ModelOverloaded])
async def test_what_is_no_failure_of_the_host(kind: type[HearthError]) -> None:
    async with breaker_on(Probe()) as breaker:
        await fail(breaker, kind("No."), times=10)
        assert breaker.report().state is State.CLOSED
        await fail(breaker, times=2)
        await fail(breaker, kind("No."))
        await fail(breaker)
        assert breaker.report().state is State.OPEN


async def test_it_probes_its_way_back_and_one_request_is_the_trial() -> None:
    probe = Probe()
    async with breaker_on(probe) as breaker:
        await fail(breaker, times=3)
        await is_(breaker, State.HALF_OPEN)
        assert (probe.count, breaker.report().next_probe_time) == (1, None)
        begun, may_end, running = asyncio.Event(), asyncio.Event(), 0

        async def request(*, begins_at_once: bool = True) -> None:
            nonlocal running
            async with breaker.call() as begins:
                running += 1
                if begins_at_once:
                    begins()
                begun.set()
                await may_end.wait()

        trial = asyncio.create_task(request(begins_at_once=False))
        await begun.wait()
        assert breaker.on_trial
        others = [asyncio.create_task(request()) for _ in range(5)]
        await asyncio.sleep(0.01)
        assert running == 1
        may_end.set()
        await asyncio.gather(trial, *others)
        assert (running, breaker.state, breaker.on_trial) == (6, State.CLOSED, False)


async def test_others_go_on_as_soon_as_the_trial_begins_to_answer() -> None:
    async with breaker_on(Probe()) as breaker:
        await fail(breaker, times=3)
        await is_(breaker, State.HALF_OPEN)
        async with breaker.call() as begins:
            other = asyncio.create_task(succeed(breaker))
            await asyncio.sleep(0)
            begins()
            async with asyncio.timeout(5):
                await other
        assert breaker.report().state is State.CLOSED


async def test_a_trial_that_fails_opens_it_again_for_all_who_wait() -> None:
    async with breaker_on(Probe()) as breaker:
        await fail(breaker, times=3)
        await is_(breaker, State.HALF_OPEN)
        async with breaker.call():
            waiting = [asyncio.create_task(succeed(breaker)) for _ in range(3)]
            await asyncio.sleep(0)
            # As the catalog sees it; the trial's own end then says nothing more.
            breaker.failed(ModelHostUnavailable("It is away."))
            for task in waiting:
                with pytest.raises(ModelHostUnavailable, match="is given no requests"):
                    await task


@pytest.mark.parametrize("begun", [False, True])
async def test_a_host_that_answers_probes_and_breaks_off_does_not_flap(begun: bool) -> None:
    """One request in each try of the half-open breaker meets the failure, and the tries come less and less often."""
    async with breaker_on(Probe()) as breaker:
        await fail(breaker, times=3)
        since = breaker.report().since_time
        probes = breaker._probes
        for _ in range(5):
            await is_(breaker, State.HALF_OPEN)
            await fail(breaker, begun=begun)
            assert breaker.report().state is State.OPEN
        assert breaker._probes == probes + 5
        assert begun or breaker.report().since_time == since


async def test_a_trial_without_a_verdict_leaves_it_to_the_next() -> None:
    async with breaker_on(Probe()) as breaker:
        await fail(breaker, times=3)
        await is_(breaker, State.HALF_OPEN)
        await fail(breaker, ModelRefused("No."))
        hanging = asyncio.create_task(_hang(breaker))
        await asyncio.sleep(0)
        assert breaker.on_trial
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        assert (breaker.state, breaker.on_trial) == (State.HALF_OPEN, False)
        await succeed(breaker)
        assert breaker.report().state is State.CLOSED


async def _hang(breaker: Breaker) -> None:
    async with breaker.call():
        await asyncio.Event().wait()


async def test_what_began_before_it_opened_says_nothing_about_now() -> None:
    async with breaker_on(Probe(), first_seconds=NEVER, max_seconds=NEVER) as breaker:
        async with breaker.call():
            await fail(breaker, times=3)
        assert breaker.report().state is State.OPEN


async def test_probes_that_fail_come_at_growing_times_up_to_a_bound() -> None:
    probe = Probe()
    probe.answers = False
    async with breaker_on(probe, first_seconds=0.001, max_seconds=0.004) as breaker:
        await fail(breaker, times=3)

        async def probed() -> bool:
            return probe.count >= 6

        await eventually(probed, seconds=5)
        assert breaker.report().state is State.OPEN
        assert breaker.report().reason == "It is away."
        probe.answers = True
        await is_(breaker, State.HALF_OPEN)
        await succeed(breaker)
    longest = [0.0] * 6
    for _ in range(200):
        async with breaker_on(probe, first_seconds=1, max_seconds=10) as breaker:
            longest = [max(known, breaker._plan()) for known in longest]
    for delay, bound in zip(longest, (1, 2, 4, 8, 10, 10), strict=True):
        assert bound * 0.8 < delay <= bound
