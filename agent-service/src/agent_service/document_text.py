"""The text of a document as it is taken out of a file: with where its headings and pages begin."""

import re
from dataclasses import dataclass, field

TITLE_CHARACTERS = 200
_SPACES = re.compile(r"\s+")


class Unreadable(Exception):
    """Why there is no text to be had from a file, and what to do; for whoever uploaded it."""


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What the text from `start` on is about, up to the next heading of this level or above; 1 is the uppermost."""

    start: int
    level: int
    title: str


@dataclass(kw_only=True)
class DocumentText:
    """A text that grows up to `limit` characters; `pages` are where its pages begin, if the file has pages."""

    limit: int
    headings: list[Heading] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list)
    _length: int = 0

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._length

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._parts)

    def add(self, text: str) -> None:
        """Appends what can be stored of `text`. Raises Unreadable where it becomes too long."""
        text = storable(text)
        if not text:
            return
        self._length += len(text)
        if self._length > self.limit:
            raise Unreadable(
                f"Its text has more than {self.limit} characters. Split it, or raise HEARTH_DOCUMENT_CHARACTERS."
            )
        self._parts.append(text)

    def paragraph(self, text: str) -> None:
        """Appends a paragraph, after an empty line where there is something before it."""
        if text := text.strip():
            self.add(f"\n\n{text}" if self._length else text)

    def heading(self, level: int, title: str) -> None:
        """Appends a heading, a paragraph of its own."""
        if title := title_of(title):
            self.paragraph(title)
            self.headings.append(Heading(start=self._length - len(title), level=level, title=title))

    def page(self) -> None:
        """A page begins here."""
        if self._length:
            self.add("\n\n")
        self.pages.append(self._length)


def title_of(text: str) -> str:
    """A heading's text in one line, not too long."""
    return storable(_SPACES.sub(" ", text).strip()[:TITLE_CHARACTERS])


def storable(text: str) -> str:
    """The text without what PostgreSQL and UTF-8 cannot hold, with "\\n" between its lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return text.encode("utf-8", "replace").decode("utf-8")
