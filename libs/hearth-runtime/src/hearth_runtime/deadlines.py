"""The deadline of the call that is being served: all that is done for the call shares it.

gRPC carries it from service to service, and within one it stands in a context variable. Asyncio gives a task a copy of
its maker's context, and a transport that is paused and resumed another one, so what outlives the call, or is shared by
several, is begun with `context=detached()`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context

from hearth_runtime.errors import DeadlineExceeded

# What is left to the answer's way back, so that a caller hears what went wrong before its own time is over. More than
# the tenth of a second up to which gRPC rounds the time that it tells a server.
ANSWER_SHARE = 0.05
ANSWER_SECONDS = 0.25

_deadline: ContextVar[float | None] = ContextVar("hearth_deadline", default=None)


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """What is done inside, which is serving one call, has so many seconds; None for any number.

    A deadline that stands already does not count: it is of another call.
    """
    outer = _deadline.get()
    _deadline.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        # Not by a token: an async generator may be closed in another context than it began in.
        _deadline.set(outer)


def bounded(seconds: float | None) -> float | None:
    """How many seconds a call may take that is begun now: `seconds`, or less where the deadline is nearer; None for
    any number. Raises DeadlineExceeded where it is past, since then nobody waits for the call.
    """
    deadline = _deadline.get()
    if deadline is None:
        return seconds
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("The time for this request ran out before all was done. Try again, or allow it more.")
    left -= min(ANSWER_SECONDS, left * ANSWER_SHARE)
    return left if seconds is None else min(seconds, left)


def detached() -> Context:
    """The present context without its deadline, for a task that outlives the call or works for several."""
    context = copy_context()
    context.run(_deadline.set, None)
    return context
