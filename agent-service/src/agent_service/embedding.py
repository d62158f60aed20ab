"""What an embedding model is given for a text: the words that some were trained to see before it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

# What is put before a chunk of its document's name and headings at most.
PLACE_CHARACTERS = 240


@dataclass(frozen=True, kw_only=True)
class Prefixes:
    """What a model wants before a question and before what may answer it."""

    query: str = ""
    passage: str = ""


# By what a model's name contains; each from its model card.
_PREFIXES = (
    (re.compile(r"e5"), Prefixes(query="query: ", passage="passage: ")),
    (re.compile(r"nomic-embed"), Prefixes(query="search_query: ", passage="search_document: ")),
    (
        re.compile(r"mxbai-embed|snowflake-arctic-embed"),
        Prefixes(query="Represent this sentence for searching relevant passages: "),
    ),
    (re.compile(r"embeddinggemma"), Prefixes(query="task: search result | query: ", passage="title: none | text: ")),
)


def prefixes_of(model: str) -> Prefixes:
    """The prefixes of the model; none where it is not known to want any."""
    name = model.lower()
    return next((prefixes for pattern, prefixes in _PREFIXES if pattern.search(name)), Prefixes())


def query_text(model: str, query: str) -> str:
    """The question as the model is to see it."""
    return prefixes_of(model).query + query


def passage_text(model: str, text: str, *, document_name: str, headings: Sequence[str]) -> str:
    """The chunk as the model is to see it: after where it stands, which a text by itself often does not tell."""
    place = " > ".join((document_name, *headings))[:PLACE_CHARACTERS]
    return f"{prefixes_of(model).passage}{place}\n{text}"
