"""The loader of named SQL blocks, and patterns for LIKE."""

import pytest
from storage_service.queries import containing, load_queries, parse_queries


def test_blocks_are_found_by_their_names() -> None:
    queries = parse_queries("-- A file.\n-- name: one\n-- $1 id.\nSELECT 1\n;\n\n-- name: two\nSELECT 2;\n")
    assert dict(queries) == {"one": "/* one */ SELECT 1\n", "two": "/* two */ SELECT 2"}


def test_a_part_stands_where_it_is_included() -> None:
    queries = parse_queries(
        "-- part: some\n-- $1 id.\nsome AS (SELECT $1)\n;\n-- name: one\nWITH\n-- include: some\nSELECT 1;\n"
        "-- part: all\nWITH\n-- include: some\n-- name: two\n-- include: all\nSELECT 2;\n"
    )
    assert dict(queries) == {
        "one": "/* one */ WITH\nsome AS (SELECT $1)\n\nSELECT 1",
        "two": "/* two */ WITH\nsome AS (SELECT $1)\n\nSELECT 2",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;\n", "one is there twice"),
        ("-- name: one\n-- only words\n\n-- name: two\nSELECT 2;\n", "one has no SQL"),
        (
            "-- name: one\n-- $1 id.\nWITH\n-- include: some\nSELECT 1;\n-- part: some\nSELECT 2;\n",
            "no part some above",
        ),
        ("-- part: one\nSELECT 1;\n-- name: one\nSELECT 2;\n", "one is there twice"),
    ],
)
def test_a_file_that_is_wrong_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_queries(text)


@pytest.mark.parametrize(
    "name", ["agents", "attempts", "database", "events", "queue", "sessions", "subscriptions", "tasks"]
)
def test_every_file_can_be_read(name: str) -> None:
    assert all(query.strip() for query in load_queries(name).values())


def test_a_pattern_takes_text_as_it_is() -> None:
    assert containing("50%_\\") == "%50\\%\\_\\\\%"
