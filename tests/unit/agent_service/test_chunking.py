"""Chunks: spans that reproduce the text, none too long, along its structure."""

import pytest
from agent_service.chunking import chunks_of
from agent_service.document_text import Heading
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.text(alphabet=st.one_of(st.sampled_from("ab c.\n?!_7。字 "), st.characters(codec="utf-8")), max_size=400)


@st.composite
def structured(draw: st.DrawFn) -> tuple[str, list[Heading], list[int]]:
    """A text with headings and pages at any places."""
    text = draw(TEXTS)
    places = st.integers(0, len(text))
    starts = sorted(draw(st.sets(places, max_size=6)))
    headings = [Heading(start=start, level=draw(st.integers(1, 4)), title=text[start : start + 8]) for start in starts]
    pages = sorted(draw(st.sets(places, max_size=4)))
    return text, headings, [0, *(page for page in pages if page)] if pages else []


@given(structured(), st.integers(2, 40))
def test_chunks_are_spans_that_leave_out_nothing_but_space(
    given_text: tuple[str, list[Heading], list[int]], max_tokens: int
) -> None:
    text, headings, pages = given_text
    chunks = list(chunks_of(text, headings=headings, pages=pages, max_tokens=max_tokens))
    end = 0
    for number, chunk in enumerate(chunks):
        assert chunk.number == number
        assert chunk.text == text[chunk.start : chunk.end] == chunk.text.strip() != ""
        assert not text[end : chunk.start].strip()
        assert chunk.start >= end
        end = chunk.end
    assert not text[end:].strip()
    assert chunks == list(chunks_of(text, headings=headings, pages=pages, max_tokens=max_tokens))


@given(structured(), st.integers(2, 40))
def test_no_chunk_is_too_long_or_goes_across_a_page(
    given_text: tuple[str, list[Heading], list[int]], max_tokens: int
) -> None:
    text, headings, pages = given_text
    for chunk in chunks_of(text, headings=headings, pages=pages, max_tokens=max_tokens):
        assert len(list(chunks_of(chunk.text, max_tokens=max_tokens))) == 1
        if pages:
            assert chunk.page is not None
            assert pages[chunk.page - 1] <= chunk.start
            assert chunk.page == len(pages) or chunk.end <= pages[chunk.page]
        else:
            assert chunk.page is None


def test_sections_are_kept_apart_and_know_their_path() -> None:
    text = "Intro.\n# A\n## B\nUnder B.\n## C\nUnder C.\n# D\nUnder D."
    headings = [
        Heading(start=text.index(f"{mark} {title}"), level=len(mark), title=title)
        for mark, title in (("#", "A"), ("##", "B"), ("##", "C"), ("#", "D"))
    ]
    chunks = list(chunks_of(text, headings=headings, max_tokens=50))
    assert [(chunk.text, chunk.headings) for chunk in chunks] == [
        ("Intro.", ()),
        ("# A\n## B\nUnder B.", ("A", "B")),  # a heading without a text of its own goes with what follows
        ("## C\nUnder C.", ("A", "C")),
        ("# D\nUnder D.", ("D",)),
    ]


def test_cuts_are_at_the_best_places() -> None:
    text = "One two three. Four five six.\n\nSeven eight nine."
    assert [chunk.text for chunk in chunks_of(text, max_tokens=11)] == [
        "One two three. Four five six.",
        "Seven eight nine.",
    ]
    assert [chunk.text for chunk in chunks_of(text, max_tokens=7)] == [
        "One two three.",
        "Four five six.",
        "Seven eight nine.",
    ]
    assert [chunk.text for chunk in chunks_of(text, max_tokens=3)][:2] == ["One two", "three."]
    assert len(list(chunks_of("x" * 100, max_tokens=12))) == 10


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        # As multilingual-e5-small counts them, without its two marks.
        ("The quick brown fox jumps over the lazy dog, and PostgreSQL's HNSW index is created concurrently.", 30),
        ("Die Donaudampfschifffahrtsgesellschaft hat gestern überraschend ihre Fahrpläne geändert.", 24),
        ("人工智能正在改变世界，很多公司都在使用大型语言模型来提高效率。", 19),
        ("id,name,amount\n1,Ada Lovelace,1023.55\n2,Charles Babbage,99881.20\n3,Grace Hopper,20.1", 40),
        ("0199f0a5-1c2d-7e4f-8a6b-9c0d1e2f3a4b https://example.org/a/b?c=d&e=f", 50),
    ],
)
def test_the_estimate_is_rather_too_high(text: str, tokens: int) -> None:
    assert len(list(chunks_of(text, max_tokens=tokens - 1))) > 1
    assert len(list(chunks_of(text, max_tokens=int(2.2 * tokens)))) == 1
