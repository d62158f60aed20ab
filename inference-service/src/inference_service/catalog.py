"""What models a host has, as it last said, and what each can do."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hearth_runtime.errors import HearthError
from ollama import ListResponse, ShowResponse

from inference_service.breaker import Breaker
from inference_service.generation_request import misnamed
from inference_service.ollama_errors import typed_errors, unknown_model, unreachable
from inference_service.output import clean
from inference_service.transport import HostHttp

LIST_TIMEOUT_SECONDS = 3.0
SHOW_TIMEOUT_SECONDS = 3.0
SHOW_CONCURRENCY = 4
MAX_MODELS = 1000
MAX_NAME = 256
MAX_CAPABILITIES = 32
MAX_SIZE_BYTES = 2**63 - 1
# What Ollama puts before the names of its own library's models, and takes for granted.
DEFAULT_PREFIXES = ("registry.ollama.ai/", "library/")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model as its host describes it."""

    name: str
    capabilities: tuple[str, ...]
    family: str
    parameter_size: str
    quantization: str
    size_bytes: int
    context_tokens: int
    hosts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Listed:
    name: str
    digest: str
    size_bytes: int


class Catalog:
    """The models of the host `name`. Lists are asked for once at a time, whoever waits for them."""

    def __init__(self, http: HostHttp, breaker: Breaker, *, name: str, fresh_seconds: float) -> None:
        self._http = http
        self._breaker = breaker
        self._name = name
        self._fresh_seconds = fresh_seconds
        self._listed: dict[str, _Listed] = {}
        self._shown: dict[str, ShowResponse] = {}  # by digest, which says that nothing has changed
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        # Why the last list did not come; the models it had before are then not counted on.
        self.failure: HearthError | None = None

    @property
    def is_stale(self) -> bool:
        """Whether it is time to ask again."""
        return time.monotonic() - self._asked_at > self._fresh_seconds

    def has(self, model: str) -> bool:
        """Whether the host has the model, as far as is known."""
        return self.failure is None and canonical(model) in self._listed

    def doubt(self, failure: HearthError) -> None:
        """The host was seen to fail: it is not counted on until it has answered again."""
        self.failure = failure
        self._asked_at = float("-inf")

    def forget(self, model: str) -> None:
        """The host was seen not to have the model."""
        self._listed.pop(canonical(model), None)

    def refresh(self) -> "asyncio.Task[None]":
        """Asks the host for its models; `failure` says afterwards whether it answered."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return self._asking

    async def close(self) -> None:
        """Stops asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def models(self) -> list[Model]:
        """The models, with what each can do. Raises HearthError where the host does not answer.

        One whose description does not come in time is there without it.
        """
        await asyncio.wait([self.refresh()])
        if self.failure is not None:
            raise self.failure
        listed = list(self._listed.values())
        await self._show_missing(listed)
        self._shown = {m.digest: self._shown[m.digest] for m in listed if m.digest in self._shown}
        return [self._described(model) for model in listed]

    async def model(self, name: str) -> Model:
        """The model of this name, as far as is known; its description is asked for where it is not there yet.

        One whose description does not come in time is there without it. Raises ModelNotFound.
        """
        listed = self._listed.get(canonical(name))
        if listed is None:
            raise unknown_model(name)
        await self._show_missing([listed])
        return self._described(listed)

    async def _show_missing(self, listed: Sequence[_Listed]) -> None:
        missing = [model for model in listed if model.digest not in self._shown]
        gate = asyncio.Semaphore(SHOW_CONCURRENCY)
        if missing:
            showing = [asyncio.create_task(self._show(model, gate)) for model in missing]
            try:
                await asyncio.wait(showing, timeout=SHOW_TIMEOUT_SECONDS)
            finally:
                for task in showing:
                    task.cancel()
                await asyncio.gather(*showing, return_exceptions=True)

    async def _ask(self) -> None:
        try:
            with typed_errors(host=self._name, model=""):
                async with _quickly(self._name, LIST_TIMEOUT_SECONDS):
                    answer = ListResponse(**await self._http.get("/api/tags"))
                self._listed = _by_name(answer)
            self.failure = None
        except HearthError as error:
            self.failure = error
            self._breaker.failed(error)
        self._asked_at = time.monotonic()

    async def _show(self, model: _Listed, gate: asyncio.Semaphore) -> None:
        try:
            async with gate:
                with typed_errors(host=self._name, model=model.name):
                    self._shown[model.digest] = ShowResponse(
                        **await self._http.post("/api/show", {"model": model.name})
                    )
        except HearthError:
            return  # it may have been removed since it was listed

    def _described(self, model: _Listed) -> Model:
        shown = self._shown.get(model.digest)
        details, info = (shown.details, shown.modelinfo or {}) if shown else (None, {})
        context = next((v for k, v in info.items() if k.endswith(".context_length") and type(v) is int), 0)
        capabilities = (shown.capabilities if shown else None) or ()
        return Model(
            name=model.name,
            capabilities=tuple(_word(c) for c in capabilities[:MAX_CAPABILITIES]),
            family=_word(details.family if details else None),
            parameter_size=_word(details.parameter_size if details else None),
            quantization=_word(details.quantization_level if details else None),
            size_bytes=model.size_bytes,
            context_tokens=context if 0 <= context < 2**31 else 0,
            hosts=(self._name,),
        )


@asynccontextmanager
async def _quickly(host: str, seconds: float) -> AsyncIterator[None]:
    """Bounds a request that needs no model, and names the host where it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise unreachable(host) from error


def _by_name(answer: ListResponse) -> dict[str, _Listed]:
    listed: dict[str, _Listed] = {}
    for model in answer.models[:MAX_MODELS]:
        # One that no request could name is none.
        if model.model and misnamed(model.model) is None:
            listed[canonical(model.model)] = _Listed(
                # Without a digest nothing tells that a model is the same: then its name must do.
                name=model.model,
                digest=model.digest or model.model,
                size_bytes=min(int(model.size or 0), MAX_SIZE_BYTES),
            )
    return listed


def _word(text: str | None) -> str:
    return clean((text or "")[:MAX_NAME])


def canonical(model: str) -> str:
    """The name by which models are the same to Ollama: of any case, `:latest` where there is no tag."""
    name = model.casefold()
    for prefix in DEFAULT_PREFIXES:
        name = name.removeprefix(prefix)
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
