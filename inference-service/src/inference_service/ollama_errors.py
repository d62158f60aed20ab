"""What Ollama and the way to it can fail with, as Hearth's typed errors."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import httpx
from hearth_runtime.errors import (
    HearthError,
    ModelHostUnavailable,
    ModelLacksCapability,
    ModelNotFound,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
)
from ollama import ResponseError

from inference_service.output import clean

MAX_DETAIL = 300


@contextmanager
def typed_errors(*, host: str, model: str) -> Iterator[None]:
    """Raises what happens inside as a HearthError that says what to do."""
    try:
        yield
    except ResponseError as error:
        raise _refused(error, host=host, model=model) from error
    except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise unreachable(host) from error
    except httpx.TimeoutException as error:
        raise ModelTimeout(f"{host} did not answer in time.") from error
    except (httpx.TransportError, httpx.StreamError) as error:
        raise ModelHostUnavailable(f"{host} broke the answer off ({type(error).__name__}).") from error
    except (ValueError, TypeError) as error:  # pydantic's and json's errors: rubbish instead of the protocol
        raise ModelHostUnavailable(f"{host} sent something that is not Ollama's protocol.") from error


def unreachable(host: str) -> ModelHostUnavailable:
    """The host cannot be connected to."""
    return ModelHostUnavailable(f"{host} does not answer. Start Ollama there, or set OLLAMA_URL to where it runs.")


def unknown_model(model: str) -> ModelNotFound:
    """No host has the model."""
    return ModelNotFound(
        f"No model host has {model!r}. GET /api/v1/models lists what there is; `ollama pull {model}` adds it.",
        metadata={"model": model},
    )


def _refused(error: ResponseError, *, host: str, model: str) -> HearthError:
    words = _words(error.error)
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return unknown_model(model)
        case HTTPStatus.NOT_IMPLEMENTED:
            return ModelLacksCapability(f"{model} cannot do this: {words}")
        case HTTPStatus.TOO_MANY_REQUESTS:
            return ModelOverloaded(f"{host} has too much to do: {words}")
        case status if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return ModelRefused(f"{host} refused the request: {words}")
    # Ollama's 5xx, and an error line in the middle of a stream (status -1).
    return ModelHostUnavailable(f"{host} failed: {words}")


def _words(text: str) -> str:
    try:
        body = json.loads(text)
    except ValueError:
        body = text
    return clean(str(body.get("error", body) if isinstance(body, dict) else body))[:MAX_DETAIL]
