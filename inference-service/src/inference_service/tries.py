"""Trying again: on another host at once, on the same one after a wait, with the next model at last."""

import asyncio
import random
from collections.abc import Sequence

from hearth_runtime.errors import HearthError, ModelHostUnavailable, ModelNotFound, ModelOverloaded, ModelTimeout

from inference_service.answer import EmptyAnswer, Notice
from inference_service.hosts import Host, Hosts
from inference_service.ollama_errors import HostUnreachable
from inference_service.settings import InferenceSettings

# What another try may mend. A refused request, a missing capability or a bad answer stays what it is.
_PASSING = (ModelHostUnavailable, ModelTimeout, ModelOverloaded)


class Tries:
    """The tries of one request, which is answered by the first of `models` that can.

    Call `next_host`, make the request there, and call `failed` where it failed before its first token.
    """

    def __init__(self, hosts: Hosts, settings: InferenceSettings, models: Sequence[str], *, seconds: float) -> None:
        self._hosts = hosts
        self._settings = settings
        self._models = list(models)
        self._ends_at = asyncio.get_running_loop().time() + seconds
        self._host: Host | None = None
        self._begin()

    def _begin(self) -> None:
        self.model = self._models.pop(0)
        self._count = 0
        self._untried: list[Host] = []
        self._failed: list[Host] = []
        self._was_empty = False
        self.delay_seconds = 0.0

    async def next_host(self) -> Host:
        """The host to ask now, after the delay that the last failure asked for. Raises HearthError."""
        self._host = None
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
            self.delay_seconds = 0.0
        hosts = await self._hosts.for_model(self.model)
        self._host = min(hosts, key=self._failed.count)
        self._untried = [host for host in hosts if host not in (self._host, *self._failed)]
        return self._host

    def failed(self, error: HearthError) -> Notice:
        """What to try next, set up for `next_host`. Raises `error` where nothing is left to try."""
        self._count += 1
        if self._host is not None:
            self._failed.append(self._host)
            if isinstance(error, HostUnreachable):
                self._host.catalog.doubt(error)
            if isinstance(error, ModelNotFound):
                self._host.catalog.forget(self.model)
        passing = isinstance(error, _PASSING)
        # Sampling may give a word the next time; a model that twice has none to say will not say it.
        once_more = isinstance(error, EmptyAnswer) and not self._was_empty
        self._was_empty = self._was_empty or isinstance(error, EmptyAnswer)
        if not passing and not isinstance(error, ModelNotFound | EmptyAnswer):
            raise error
        # Where no host could be chosen, all were asked just now or are left alone: there is no use in asking again.
        repeatable = once_more or not isinstance(error, EmptyAnswer)
        if self._host is not None and self._count < self._settings.model_attempts and repeatable:
            if self._untried:
                return Notice(code="host_failed", message=f"{error.detail} Trying {self._untried[0].name}.")
            delay = self._backoff_seconds()
            if (passing or once_more) and delay < self._ends_at - asyncio.get_running_loop().time():
                self.delay_seconds = delay
                return Notice(code="retry", message=f"{error.detail} Trying again.")
        if not self._models:
            raise error
        self._begin()
        return Notice(code="fallback", message=f"{error.detail} Trying {self.model} instead.")

    def _backoff_seconds(self) -> float:
        """Exponential, with full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/."""
        return random.uniform(0, self._settings.model_backoff_seconds * 2 ** (self._count - 1))  # noqa: S311
