"""Names of models and hosts, what a request may hold, and what errors say."""

import aiohttp
import pytest
from hearth_runtime.errors import (
    HearthError,
    InvalidArgument,
    ModelHostUnavailable,
    ModelLacksCapability,
    ModelNotFound,
    ModelOutputInvalid,
    ModelOverloaded,
    ModelRefused,
    ModelTimeout,
)
from inference_service.catalog import canonical
from inference_service.conversation import Message
from inference_service.generation import answer_seconds
from inference_service.generation_request import Options, Request
from inference_service.hosts import Host
from inference_service.ollama_errors import PromptTooLong, typed_errors
from inference_service.settings import InferenceSettings
from inference_service.transport import NotConnected
from ollama import ResponseError
from pydantic import ValidationError


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("m", "m:latest"),
        ("M:1B", "m:1b"),
        ("library/m", "m:latest"),
        ("registry.ollama.ai/library/m:1b", "m:1b"),
        ("host:5000/me/m", "host:5000/me/m:latest"),
        ("hf.co/a/b-GGUF:Q4_K_M", "hf.co/a/b-gguf:q4_k_m"),
    ],
)
def test_the_names_of_a_model(name: str, same: str) -> None:
    assert canonical(name) == same


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://a:1", "http://a:1"),
        ("http://me:pass%40word@a:1/", "http://a:1"),
        ("https://t@a/ollama/?x=1#y", "https://a/ollama"),
        ("a:1", "http://a:1"),
        ("unix:/run/o", "unix:/run/o"),
        ("http://[::1]:1", "http://[::1]:1"),
    ],
)
async def test_a_host_is_named_without_credentials(url: str, name: str) -> None:
    host = Host(url, InferenceSettings())
    assert host.name == name
    await host.close()


@pytest.mark.parametrize("url", ["", " , ", "ftp://a", "http://", "unix:", "http://a:x", "http://a,ftp://b"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValidationError):
        InferenceSettings(ollama_url=url)


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (ResponseError('{"error": "model \'m\' not found"}', 404), ModelNotFound, "ollama pull m"),
        (ResponseError("no\x1b\nway", 400), ModelRefused, "h refused the request: no way."),
        (ResponseError("Failed to process inputs: png: invalid", 500), ModelRefused, "Send images as whole PNG"),
        (ResponseError("x: this model is missing data required for image input", 500), ModelLacksCapability, "images"),
        (ResponseError('{"error": "x/m does not support tools"}', 400), ModelLacksCapability, "m takes no tools"),
        (ResponseError('{"error": {"type": "exceed_context_size_error"}}', 400), PromptTooLong, "exceed_context"),
        (
            ResponseError("error parsing tool call: raw='ls'", 500),
            ModelOutputInvalid,
            "m called a tool in a way that h",
        ),
        (ResponseError("invalid character ']' after object key:value pair"), ModelOutputInvalid, "could not read"),
        (ResponseError("", 500), ModelHostUnavailable, "h failed: it does not say why."),
        (ResponseError("<html>" * 1000, 502), ModelHostUnavailable, "h failed: <html>"),
        (ResponseError("later", 429), ModelOverloaded, "later"),
        (ResponseError("no", 501), ModelLacksCapability, "m cannot do this: no."),
        (ResponseError("no", 401), ModelHostUnavailable, "credentials"),
        (ResponseError("no", 408), ModelTimeout, "gave up"),
        (ResponseError("died"), ModelHostUnavailable, "h failed: died."),
        (NotConnected(), ModelHostUnavailable, "set OLLAMA_URL"),
        (aiohttp.ServerDisconnectedError(), ModelHostUnavailable, "broke the answer off"),
        (ConnectionResetError(), ModelHostUnavailable, "broke the answer off"),
        (ValueError(), ModelHostUnavailable, "not Ollama's protocol"),
        (AttributeError(), ModelHostUnavailable, "not Ollama's protocol"),
        (KeyError(), ModelHostUnavailable, "not Ollama's protocol"),
        (RecursionError(), ModelHostUnavailable, "not Ollama's protocol"),
    ],
)
def test_errors_say_what_to_do(raised: Exception, kind: type[HearthError], words: str) -> None:
    with pytest.raises(HearthError) as caught, typed_errors(host="h", model="m"):
        raise raised
    assert isinstance(caught.value, kind)
    assert caught.value.code == kind.code
    assert words in caught.value.detail
    assert len(caught.value.detail) < 500


def request(**fields: object) -> Request:
    given = {"models": ("m",), "prompt": "p", "options": Options(), "fair_key": "", **fields}
    return Request(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"models": ("",)}, ["model"]),
        ({"models": ("a\nb",)}, ["model"]),
        ({"models": ("m" * 257,)}, ["model"]),
        ({"models": ("m", "x y")}, ["fallback_models.0"]),
        ({"prompt": None}, ["messages"]),
        ({"messages": (Message(role="user", content=""), Message(role="me", content=""))}, ["messages.1.role"]),
    ],
)
def test_a_request_that_is_wrong(fields: dict[str, object], wrong: list[str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        request(**fields)
    assert [f.field for f in caught.value.fields] == wrong


def test_options_as_ollama_names_them() -> None:
    assert Options().for_ollama() == {}
    options = Options(temperature=0, top_p=0.5, seed=0, max_tokens=1, stop=("a",), context_tokens=2)
    assert options.for_ollama() == {
        "temperature": 0,
        "top_p": 0.5,
        "seed": 0,
        "num_predict": 1,
        "stop": ["a"],
        "num_ctx": 2,
    }
    assert [Options(keep_alive=k).keep_alive_for_ollama() for k in (None, "5m", "-1", "0")] == [None, "5m", -1.0, 0.0]


def test_an_answer_ends_a_little_before_its_caller_stops_waiting() -> None:
    settings = InferenceSettings(model_answer_seconds=100)
    assert answer_seconds(settings, None) == 100
    assert answer_seconds(settings, 1000) == 100
    assert answer_seconds(settings, 10) == pytest.approx(9.8)
    assert answer_seconds(settings, 0.5) == pytest.approx(0.45)
