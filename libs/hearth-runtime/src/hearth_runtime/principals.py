"""For whom a call is made: it goes with the call from service to service, and decides what that sees.

The gateway finds out who asks and a worker for whom a run runs; each acts for them with `acting_for`. From there it
takes care of itself: it stands in a context variable, channels send it on and servers take it up. storage-service asks
for it in one place, at which PostgreSQL learns what rows there are for this call: docs/adr/0014-owners.md.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from hearth.runtime.v1 import principal_pb2

from hearth_runtime.codec import from_message, to_message

METADATA_KEY = "hearth-principal-bin"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who owns what a call makes, and sees what has this owner and nothing more, or all.

    The rest is what the owner may have at most: tasks accepted within a minute, tasks that have not ended, and tokens
    of its runs within 24 hours.
    """

    owner: str
    sees_all: bool = False
    tasks_per_minute: int | None = None
    concurrent_runs: int | None = None
    tokens_per_day: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is any bound."""
        return not (self.tasks_per_minute is None and self.concurrent_runs is None and self.tokens_per_day is None)


_principal: ContextVar[Principal | None] = ContextVar("hearth_principal", default=None)


@contextmanager
def acting_for(principal: Principal | None) -> Iterator[None]:
    """What is done inside is done for `principal`; for Hearth itself, which sees all, with None."""
    outer = _principal.get()
    _principal.set(principal)
    try:
        yield
    finally:
        # Not by a token: an async generator may be closed in another context than it began in.
        _principal.set(outer)


def current_principal() -> Principal | None:
    """For whom the present call is made; None for Hearth itself."""
    return _principal.get()


def may_see(owner: str) -> bool:
    """Whether the present call may see what has this owner."""
    principal = _principal.get()
    return principal is None or principal.sees_all or principal.owner == owner


def as_metadata() -> tuple[tuple[str, bytes], ...]:
    """What tells another service for whom the call is made."""
    principal = _principal.get()
    if principal is None:
        return ()
    return ((METADATA_KEY, to_message(principal, principal_pb2.Principal).SerializeToString()),)


def of_metadata(metadata: Iterable[tuple[str, Any]] | None) -> Principal | None:
    """For whom the call with this metadata is made."""
    for key, value in metadata or ():
        if key == METADATA_KEY and isinstance(value, bytes):
            return from_message(principal_pb2.Principal.FromString(value), Principal)
    return None
