"""What a session keeps of a conversation."""

from typing import Any

from hearth_runtime.tasks import Turn
from storage_service.sessions import TURNS_BYTES, TURNS_LIMIT, newest, turns_of


def turn(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_a_session_without_data_has_no_turns() -> None:
    assert turns_of(None) == ()
    assert turns_of([turn("hi")]) == (Turn(role="user", content="hi"),)


def test_the_newest_turns_are_kept_in_their_order() -> None:
    turns = [turn(str(n)) for n in range(TURNS_LIMIT + 5)]
    assert newest(turns) == turns[5:]


def test_large_turns_push_out_the_oldest() -> None:
    third = "ü" * (TURNS_BYTES // 6)
    assert newest([turn("the oldest of them"), turn(third), turn(third), turn(third)]) == [turn(third)] * 3
    assert newest([turn(third), turn(third), turn(third), turn("the newest of them")]) == [
        turn(third),
        turn(third),
        turn("the newest of them"),
    ]


def test_the_very_newest_turn_is_always_kept() -> None:
    huge = turn("x" * (TURNS_BYTES + 1))
    assert newest([turn("old"), huge]) == [huge]
