"""llama.cpp in this process: the one border to a library without types. Its calls block, so they belong in threads."""

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import xllamacpp

SLOTS = 4
# Between two batches of a prompt a generation can be given up, and those beside it get their turn: less than half a
# second on one core. Larger batches are no faster there, smaller ones slower.
BATCH_TOKENS = 64
HTTP_THREADS = 2
SILENT = -1


class LlamaError(Exception):
    """llama.cpp refused a request or failed at it; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a generation took: tokens, and durations in nanoseconds."""

    prompt_tokens: int
    prompt_duration: int
    tokens: int
    duration: int


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of output, which may be empty; the last one has a reason ("stop" or "length") and the counts."""

    text: str = ""
    reason: str | None = None
    counts: Counts | None = None


class Llama:
    """A loaded model. Its conversations share `context_tokens`: all fail once they need more together.

    Raises LlamaError where it cannot be loaded.
    """

    def __init__(self, *, file: Path, threads: int, context_tokens: int, path: Path) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx = context_tokens
        params.n_parallel = SLOTS
        params.kv_unified = True
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_threads_http = HTTP_THREADS
        params.cache_ram_mib = 0
        params.verbosity = SILENT
        # It always serves HTTP as well, which has what its Python methods lack: templates and tokens. A unix socket in
        # a private folder keeps that to ourselves; what an earlier load left there would be in its way.
        path.unlink(missing_ok=True)
        params.hostnames = [str(path)]
        self._path = path
        try:
            self._server: Any = xllamacpp.Server(params)
        except RuntimeError as error:
            raise LlamaError(500, f"the model cannot be loaded: {error}") from error

    def close(self) -> None:
        """Frees the model. No other call may be under way."""
        self._server = None

    def complete(self, request: Mapping[str, object], hand_over: Callable[[Chunk], bool]) -> None:
        """Goes on from `prompt`; `hand_over` gets each chunk and ends it by returning True. Raises LlamaError.

        It is called while the prompt is read as well, at least once for each BATCH_TOKENS.
        """
        _run(self._server.handle_completions, request, hand_over)

    def converse(self, request: Mapping[str, object], hand_over: Callable[[Chunk], bool]) -> None:
        """As `complete`, from `messages` and in a `response_format`.

        Only here does a schema become llama.cpp's own grammar: the library's converter makes one for another engine,
        which lets anything pass once it does not know a schema.
        """
        _run(self._server.handle_chat_completions, request, hand_over)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt that the model's own template makes of a conversation."""
        return str(self._post("/apply-template", {"messages": list(messages)})["prompt"])

    def tokens(self, text: str) -> list[int]:
        """The tokens of a prompt, marks like `<|im_start|>` being tokens of their own."""
        found = self._post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
        return [int(token) for token in found]

    def _post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        with closing(_UnixConnection(self._path)) as connection:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        if "error" in answer:
            raise _failure(answer["error"])
        return answer


def _run(handle: Callable[..., object], request: Mapping[str, object], hand_over: Callable[[Chunk], bool]) -> None:
    failures: list[LlamaError] = []

    def on_chunk(chunk: dict[str, Any]) -> bool:
        if "error" in chunk:
            failures.append(_failure(chunk["error"]))
            return True
        return hand_over(_chunk(chunk))

    try:
        handle({**request, "stream": True, "return_progress": True}, on_chunk)
    except ValueError as error:  # what C++ calls an invalid argument: a schema that it does not know
        raise LlamaError(400, " ".join(str(error).split())) from error
    except RuntimeError as error:
        raise LlamaError(500, " ".join(str(error).split())) from error
    if failures:
        raise failures[0]


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("llama")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def _chunk(chunk: dict[str, Any]) -> Chunk:
    choice = (chunk.get("choices") or [{}])[0]
    text = str(choice.get("text") or (choice.get("delta") or {}).get("content") or "")
    timings = chunk.get("timings")
    if timings is None:
        return Chunk(text=text)
    return Chunk(
        text=text,
        reason="length" if choice.get("finish_reason") == "length" else "stop",
        counts=Counts(
            prompt_tokens=timings["prompt_n"] + timings.get("cache_n", 0),
            prompt_duration=int(timings["prompt_ms"] * 1e6),
            tokens=timings["predicted_n"],
            duration=int(timings["predicted_ms"] * 1e6),
        ),
    )


def _failure(error: Any) -> LlamaError:
    if not isinstance(error, dict):
        return LlamaError(500, str(error))
    return LlamaError(int(error.get("code", 500)), " ".join(str(error.get("message", error)).split()))
