"""Page tokens: opaque, and only ours."""

from uuid import UUID

import pytest
from hearth_runtime.errors import InvalidArgument
from hearth_runtime.events import StreamId
from hearth_runtime.identifiers import new_id
from storage_service.pages import (
    checkpoint_of_token,
    id_of_token,
    place_of_token,
    token_of_checkpoint,
    token_of_id,
    token_of_place,
)


def test_a_token_comes_back_as_what_it_stands_for() -> None:
    last = new_id()
    assert id_of_token(token_of_id(last)) == UUID(last)
    place = StreamId(1764000000000, 12)
    assert place_of_token(token_of_place(place)) == place
    token = token_of_checkpoint("1f-é", last, "inner:é|x")
    assert checkpoint_of_token(token) == ("1f-é", UUID(last), "inner:é|x")
    assert checkpoint_of_token("") is None
    assert id_of_token("") is None
    assert place_of_token("") is None


@pytest.mark.parametrize("token", ["x", "rubbish", "====", "é", "a b", "MS0x\n", "MS0x=", "A" * 10_000])
def test_what_is_no_token_names_the_cursor(token: str) -> None:
    for read in (id_of_token, place_of_token, checkpoint_of_token):
        with pytest.raises(InvalidArgument) as caught:
            read(token)
        assert caught.value.fields[0].field == "cursor"


def test_a_token_of_another_list_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        place_of_token(token_of_id(new_id()))
    with pytest.raises(InvalidArgument):
        id_of_token(token_of_place(StreamId(1764000000000, 0)))
    for other in (token_of_id(new_id()), token_of_place(StreamId(1764000000000, 0))):
        with pytest.raises(InvalidArgument):
            checkpoint_of_token(other)


def test_another_spelling_of_a_token_is_refused() -> None:
    token = token_of_place(StreamId(10, 10))
    assert token == "MTAtMTA"
    # The last character's unused bits differ: the same bytes for a lenient decoder.
    with pytest.raises(InvalidArgument):
        place_of_token("MTAtMTB")
