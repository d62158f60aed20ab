"""Citations: what holds is found with its place, what does not is dropped and told of, and nothing is invented."""

from dataclasses import asdict
from typing import Any

import pytest
from agent_service.citations import MAX_CITATIONS, Passage, cite, cited
from hypothesis import given
from hypothesis import strategies as st

HOTELS = "### Hotels\nA hotel costs at most 100 euros a night. Breakfast is included."
HOLIDAYS = "Everybody has thirty days of paid holiday a year."
PASSAGES = [
    Passage(marker=1, document_id="d1", name="travel.md", page=None, start=500, text=HOTELS),
    Passage(marker=2, document_id="d2", name="people.pdf", page=3, start=0, text=HOLIDAYS),
]


def test_a_citation_that_holds_has_its_place_and_its_quote() -> None:
    answer = "A hotel may cost at most 100 euros per night [1]. You have thirty days of holiday.[2]"
    (hotel, holiday), dropped = cite(answer, PASSAGES)
    assert dropped == []
    quote = "A hotel costs at most 100 euros a night."
    assert (hotel.document_id, hotel.name, hotel.page, hotel.how) == ("d1", "travel.md", None, "cited")
    assert hotel.quote == quote
    assert hotel.span == (500 + HOTELS.index(quote), 500 + HOTELS.index(quote) + len(quote))
    assert answer[slice(*hotel.sentence)] == "A hotel may cost at most 100 euros per night [1]."
    assert (holiday.document_id, holiday.page, holiday.marker, holiday.quote) == ("d2", 3, 2, HOLIDAYS)


@pytest.mark.parametrize(
    ("answer", "reason", "marker"),
    [
        ("A hotel costs at most 100 euros a night [7].", "unknown_marker", 7),
        ("Trains are booked by the office on Mondays [1].", "not_in_text", 1),
        ("A hotel costs at most 200 euros a night [1].", "not_in_text", 1),
        ("It says “a hotel costs whatever you like at night” [1].", "not_in_text", 1),
        ("Everybody has thirty days of holiday [1].", "not_in_text", 1),
    ],
)
def test_a_citation_that_does_not_hold_is_dropped(answer: str, reason: str, marker: int) -> None:
    citations, (dropped,) = cite(answer, PASSAGES)
    assert (dropped.reason, dropped.marker) == (reason, marker)
    assert all((citation.how == "attributed" and citation.marker != marker) or marker == 7 for citation in citations)


def test_a_sentence_without_a_citation_is_attributed_by_its_words() -> None:
    (citation,), dropped = cite("Hotels cost at most 100 euros a night.", PASSAGES)
    assert (citation.how, citation.marker, dropped) == ("attributed", 1, [])
    for unlike in ("I do not know.", "It costs a lot.", "The hotel is by the sea and has a pool.", "Hotels."):
        assert cite(unlike, PASSAGES) == ([], [])


def test_several_markers_and_repeated_ones() -> None:
    both = "Everybody has thirty days of paid holiday and a hotel costs at most 100 euros a night"
    citations, dropped = cite(f"{both} [1, 2][1].", PASSAGES)
    assert [citation.marker for citation in citations] == [1, 2]
    assert dropped == []


def test_passages_of_two_searches_with_one_number_are_told_apart() -> None:
    again = Passage(
        marker=1, document_id="d3", name="c.md", page=None, start=0, text="Cats purr when they are content."
    )
    (citation,), _ = cite("Content cats purr [1].", [*PASSAGES, again])
    assert citation.document_id == "d3"


def test_languages_without_spaces() -> None:
    passage = Passage(
        marker=1, document_id="d", name="n", page=None, start=0, text="酒店每晚最多一百欧元。早餐包括在内。"
    )
    (citation,), _ = cite("酒店每晚最多一百欧元。[1]", [passage])
    assert (citation.quote, citation.how) == ("酒店每晚最多一百欧元。", "cited")


@given(st.text(max_size=300), st.lists(st.text(min_size=1, max_size=200), max_size=4))
def test_whatever_is_cited_is_in_the_passages(answer: str, texts: list[str]) -> None:
    passages = [
        Passage(marker=n, document_id=str(n), name="n", page=None, start=n * 1000, text=text)
        for n, text in enumerate(texts, 1)
    ]
    citations, dropped = cite(answer + " [1] [2].", passages)
    assert len(citations) <= MAX_CITATIONS
    for citation in citations:
        text, offset = texts[citation.marker - 1], citation.marker * 1000
        assert text[citation.span[0] - offset : citation.span[1] - offset] == citation.quote
    assert {d.reason for d in dropped} <= {"unknown_marker", "not_in_text"}


def test_the_output_has_citations_only_where_something_was_looked_up() -> None:
    output: dict[str, Any] = {"text": "Hotels cost at most 100 euros a night.", "data": None}
    assert cited(output, [None, {"results": []}, {"chunks": [{"text": "no passage"}]}, "text"]) is output
    chunk = {"marker": 1, "document_id": "d", "name": "n", "page": None, "span": [10, 80], "text": HOTELS, "score": 1.0}
    result = cited(output, [None, {"chunks": [chunk]}])
    assert result["text"] == output["text"]
    assert result["dropped_citations"] == []
    (citation,) = result["citations"]
    assert citation == {
        "document_id": "d",
        "name": "n",
        "page": None,
        "span": [21, 61],
        "quote": "A hotel costs at most 100 euros a night.",
        "marker": 1,
        "how": "attributed",
        "sentence": [0, 38],
    }


def test_what_is_cited_of_a_search_that_found_nothing_is_dropped() -> None:
    result = cited({"text": "A hotel costs at most 100 euros a night [1]."}, [{"chunks": []}])
    assert result["citations"] == []
    assert [(d["marker"], d["reason"]) for d in result["dropped_citations"]] == [(1, "unknown_marker")]


def test_what_a_sub_task_cites_comes_up_with_its_place_and_no_more() -> None:
    below, _ = cite("A hotel costs at most 100 euros a night [1].", PASSAGES)
    citation = {**asdict(below[0]), "span": list(below[0].span), "sentence": [0, 44]}
    data = {"task_id": "t", "citations": [citation]}
    output = {"text": "It is 100 euros a night for a hotel at most [1]. Breakfast is included [1]."}
    (above,) = cited(output, [data])["citations"]
    assert (above["document_id"], above["name"], above["quote"]) == ("d1", "travel.md", below[0].quote)
    assert above["span"] == list(below[0].span)
    # That breakfast is included is in the document too, but the sub-task's answer does not stand on it.
    (dropped,) = cited(output, [data])["dropped_citations"]
    assert (dropped["marker"], dropped["reason"]) == (1, "not_in_text")
    (unfounded,) = cited({"text": "A hotel is 100 euros [1]."}, [{"task_id": "t", "citations": []}])[
        "dropped_citations"
    ]
    assert unfounded["reason"] == "unknown_marker"
