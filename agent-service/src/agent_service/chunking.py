"""Cuts a document's text into chunks: along its structure, none too long for the embedding model, each a span of it."""

import re
from collections.abc import Iterator, Sequence

from hearth_runtime.documents import Chunk

from agent_service.document_text import TITLE_CHARACTERS, Heading

# What the estimate is raised by, so that hardly any text has more tokens than estimated.
# Measured with multilingual-e5-small on English, code, German, Chinese, Russian, CSV and UUIDs.
CAUTION = 1.2
_WORDS = re.compile(r"[A-Za-z]+|[0-9]+|[^\W\d_]+|[^\w\s]|_")
_IDEOGRAPHS = 0x2E80  # from here on a character is a word of its own

# What a heading may have at most with its marks.
MARKED_CHARACTERS = 2 * TITLE_CHARACTERS + 10

# Where to cut, the best places first: paragraphs, lines, sentences, words.
_SEPARATORS = tuple(
    re.compile(pattern) for pattern in (r"\n[ \t]*\n\s*", r"\n", r"(?<=[.!?;:])\s+|(?<=[。！？；])", r"\s+")
)

type Span = tuple[int, int]


def chunks_of(
    text: str, *, headings: Sequence[Heading] = (), pages: Sequence[int] = (), max_tokens: int
) -> Iterator[Chunk]:
    """The chunks in their order: they overlap nowhere, and leave out nothing but space.

    None goes across the beginning of a page, or of a section that has text of its own. A heading that nothing but
    another one follows goes with the text after that. The same text gives the same chunks.
    """
    number = 0
    for (start, end), path, page in _sections(text, headings, pages):
        for first, last in _cut(text, start, end, max_tokens / CAUTION, 0):
            span = _trimmed(text, first, last)
            if span is not None:
                yield Chunk(
                    number=number, text=text[span[0] : span[1]], headings=path, page=page, start=span[0], end=span[1]
                )
                number += 1


def _sections(
    text: str, headings: Sequence[Heading], pages: Sequence[int]
) -> Iterator[tuple[Span, tuple[str, ...], int | None]]:
    """The stretches between the beginnings of headings and pages, with the path and the page of each."""
    by_start = {heading.start: heading for heading in headings}
    numbers = {start: number for number, start in enumerate(pages, start=1)}
    starts = sorted(start for start in {0, *by_start, *numbers} if start < len(text))
    path: list[Heading] = []
    page: int | None = 1 if pages else None
    carried: int | None = None  # where headings begin that have no text of their own
    for place, start in enumerate(starts):
        end = starts[place + 1] if place + 1 < len(starts) else len(text)
        if start in numbers:
            page = numbers[start]
        if (heading := by_start.get(start)) is not None:
            path = [above for above in path if above.level < heading.level] + [heading]
            if end < len(text) and end not in numbers and _is_bare(heading, text, end):
                carried = start if carried is None else carried
                continue
        yield (start if carried is None else carried, end), tuple(above.title for above in path), page
        carried = None


def _cut(text: str, start: int, end: int, room: float, level: int) -> Iterator[Span]:
    """Spans that have room, as few as go: neighbours at the best places that are close enough to each other."""
    if _raw_tokens(text[start:end]) <= room:
        yield start, end
        return
    if level == len(_SEPARATORS):
        # A word that is too long: no character has more than one token by the estimate.
        step = max(1, int(room))
        yield from ((place, min(place + step, end)) for place in range(start, end, step))
        return
    first, tokens = start, 0
    for piece_start, piece_end in _pieces(text, start, end, level):
        piece_tokens = _raw_tokens(text[piece_start:piece_end])
        if tokens + piece_tokens > room:
            if first < piece_start:
                yield first, piece_start
            first, tokens = piece_start, 0
            if piece_tokens > room:
                yield from _cut(text, piece_start, piece_end, room, level + 1)
                first = piece_end
                continue
        tokens += piece_tokens
    if first < end:
        yield first, end


def _pieces(text: str, start: int, end: int, level: int) -> Iterator[Span]:
    first = start
    for match in _SEPARATORS[level].finditer(text, start, end):
        if match.end() > first:
            yield first, match.end()
            first = match.end()
    if first < end:
        yield first, end


def _trimmed(text: str, start: int, end: int) -> Span | None:
    """The span without the space at its ends; None where it is all space."""
    piece = text[start:end]
    bare = piece.strip()
    if not bare:
        return None
    start += len(piece) - len(piece.lstrip())
    return start, start + len(bare)


def _is_bare(heading: Heading, text: str, end: int) -> bool:
    """Whether there is nothing but the heading itself, in whatever marks, up to `end`."""
    if end - heading.start > MARKED_CHARACTERS:
        return False
    return sum(map(str.isalnum, text[heading.start : end])) <= sum(map(str.isalnum, heading.title))


def _raw_tokens(text: str) -> int:
    """What a text has at least as much of as each way to cut it in two has together."""
    return sum(_word_tokens(word) for word in _WORDS.findall(text))


def _word_tokens(word: str) -> int:
    first = word[0]
    if first.isascii():
        if first.isalpha():
            return 1 if len(word) <= 5 else -(-len(word) // 4)
        return -(-len(word) // 2)
    ideographs = sum(ord(character) >= _IDEOGRAPHS for character in word)
    return ideographs + -(-(len(word) - ideographs) // 3)
