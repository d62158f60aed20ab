"""What Ollama and the way to it can fail with, as Hearth's typed errors."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import aiohttp
from hearth_runtime.errors import (
    HearthError,
    ModelHostUnavailable,
    ModelLacksCapability,
    ModelNotFound,
    ModelOutputInvalid,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
)
from ollama import ResponseError

from inference_service.output import clean
from inference_service.transport import AnswerTooLong, Compressed, NotConnected, Refused

MAX_DETAIL = 300
# What Ollama says, with 400 or 500, of a model that takes no tools or images.
_LACKS = {
    "does not support tools": "tools",
    "does not support vision": "vision",
    "missing data required for image input": "vision",
}
# What Ollama's runners, and the embedded server, say where `truncate` is false or nothing can be left out.
_TOO_LONG = ("exceeds the context length", "exceed_context_size_error", "longer than the context length")
# What it says, with 500 or in the stream, of a model's tool call that it cannot read: the host is as well as before.
# https://github.com/ollama/ollama/issues/12884, https://github.com/ollama/ollama/issues/17647
_UNREADABLE_CALL = re.compile(
    r"error parsing tool call|tool call parsing|failed to parse JSON|^invalid character |^unexpected end of JSON", re.I
)
# What it says, with 500, of an image that it cannot decode: the host is as well as before.
_NOT_READ = "failed to process inputs"


class HostUnreachable(ModelHostUnavailable):
    """Nothing answers at the host's address; on the wire it is a ModelHostUnavailable."""


class PromptTooLong(ModelRefused):
    """The host was asked to leave nothing out of a prompt that its context does not hold."""


@contextmanager
def typed_errors(*, host: str, model: str) -> Iterator[None]:
    """Raises what happens inside as a HearthError that says what to do."""
    try:
        yield
    except ResponseError as error:
        raise _refused(error.status_code, error.error, host=host, model=model) from error
    except Refused as error:
        raise _refused(error.status_code, error.body, host=host, model=model) from error
    except NotConnected as error:
        raise unreachable(host) from error
    except AnswerTooLong as error:
        raise ModelHostUnavailable(f"{host} sent what is too long to be an answer: {error}.") from error
    except Compressed as error:
        raise ModelHostUnavailable(
            f"{host} compresses its answers. Switch that off in what stands before it: no bound holds for them."
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        raise ModelHostUnavailable(f"{host} broke the answer off ({type(error).__name__}).") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
        # What json, pydantic and the ollama library make of rubbish in the protocol's place.
        raise ModelHostUnavailable(f"{host} sent something that is not Ollama's protocol.") from error


def unreachable(host: str) -> HostUnreachable:
    """The host cannot be connected to."""
    return HostUnreachable(f"{host} does not answer. Start Ollama there, or set OLLAMA_URL to where it runs.")


def unknown_model(model: str) -> ModelNotFound:
    """No host has the model."""
    return ModelNotFound(
        f"No model host has {model!r}. GET /api/v1/models lists what there is; `ollama pull {model}` adds it.",
        metadata={"model": model},
    )


def lacks_capability(model: str, capability: str) -> ModelLacksCapability:
    """The model takes no images ("vision") or no tools ("tools")."""
    thing = "images" if capability == "vision" else capability
    return ModelLacksCapability(
        f"{model} takes no {thing}: it lacks the capability {capability}. Choose a model that has it, or leave the "
        f"{thing} out; GET /api/v1/models says what each model can do.",
        metadata={"model": model, "capability": capability},
    )


def _refused(status_code: int, body: str, *, host: str, model: str) -> HearthError:
    words = _words(body)
    for said, capability in _LACKS.items():
        if model and said in words:
            return lacks_capability(model, capability)
    match status_code:
        case HTTPStatus.NOT_FOUND if model:
            return unknown_model(model)
        case HTTPStatus.NOT_IMPLEMENTED:
            return ModelLacksCapability(
                f"{model} cannot do this: {words}. GET /api/v1/models says what a model can do."
            )
        case HTTPStatus.BAD_REQUEST if any(said in words for said in _TOO_LONG):
            return PromptTooLong(f"{host} refused the request: {words}.")
        case HTTPStatus.TOO_MANY_REQUESTS:
            return ModelOverloaded(f"{host} has too much to do: {words}. Try again later.")
        case HTTPStatus.SERVICE_UNAVAILABLE if "server busy" in words:
            # Ollama's own queue is full (its ErrMaxQueue); a proxy's 503 is a host that is not there.
            return ModelOverloaded(f"{host} has too much to do: {words}. Try again later.")
        case HTTPStatus.REQUEST_TIMEOUT:
            return ModelTimeout(f"{host} gave up: {words}.")
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return ModelHostUnavailable(f"{host} wants other credentials than OLLAMA_URL has: {words}.")
        case status if model and HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return ModelRefused(f"{host} refused the request: {words}.")
        case _ if model and _UNREADABLE_CALL.search(words):
            return ModelOutputInvalid(f"{model} called a tool in a way that {host} could not read: {words}.")
        case _ if model and _NOT_READ in words.lower():
            return ModelRefused(f"{host} could not read the request: {words}. Send images as whole PNG or JPEG files.")
    # Ollama's 5xx, and an error line in the middle of a stream (status -1).
    return ModelHostUnavailable(f"{host} failed: {words}.")


def _words(text: str) -> str:
    """What the body says, on one line, cut off at MAX_DETAIL."""
    try:
        body = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        body = text
    try:
        said = str(body.get("error", body) if isinstance(body, dict) else body)
    except RecursionError:
        said = ""
    return " ".join(clean(said).split())[:MAX_DETAIL].rstrip(".") or "it does not say why"
