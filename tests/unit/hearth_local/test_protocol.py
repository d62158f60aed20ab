"""Requests of Ollama's API, read and refused."""

from typing import Any

import pytest
from hearth_local.models.catalog import CHAT, EMBEDDING, catalog, find
from hearth_local.models.protocol import ApiError, check_keep_alive, generation, messages_of


def test_options_become_llama_cpps() -> None:
    wanted = generation({"options": {"temperature": 0, "num_predict": 5, "seed": 1, "stop": "x"}}, messages=())
    assert wanted.sampling == {
        "temperature": 0,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.0,
        "repeat_penalty": 1.1,
        "max_tokens": 5,
        "seed": 1,
    }
    assert wanted.stop == ("x",)


def test_an_endless_num_predict_sets_no_bound() -> None:
    assert "max_tokens" not in generation({"options": {"num_predict": -1}}, messages=()).sampling


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"options": [1]}, "options"),
        ({"options": {"temperature": "hot"}}, "temperature"),
        ({"options": {"temperature": True}}, "temperature"),
        ({"options": {"stop": [1]}}, "stop"),
        ({"format": 7}, "format"),
        ({"format": "yaml"}, "format"),
    ],
)
def test_what_is_wrong_is_400_and_named(body: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        generation(body, messages=())
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "messages", ["hi", [1], [{"role": "robot", "content": "x"}], [{"role": "user", "content": 1}], [{"content": "x"}]]
)
def test_messages_need_a_role_and_a_content(messages: Any) -> None:
    with pytest.raises(ApiError):
        messages_of({"messages": messages})


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, None), (0, 0), ("0", 0), ("0s", 0), ("5m", 1), (-1, -1), ("-1", -1), ("1h30m", 1)]
)
def test_keep_alive(value: Any, seconds: float | None) -> None:
    assert check_keep_alive({"keep_alive": value}) == seconds


@pytest.mark.parametrize("value", ["soon", "5 minutes", True, [], "m5"])
def test_keep_alive_that_is_none(value: Any) -> None:
    with pytest.raises(ApiError):
        check_keep_alive({"keep_alive": value})


def test_names_without_a_tag_mean_latest() -> None:
    assert find("multilingual-e5-small") == catalog()[EMBEDDING]
    assert find(CHAT.upper()) == catalog()[CHAT]
    assert find("smollm2") is None
    assert all(model.file.is_file() for model in catalog().values())
