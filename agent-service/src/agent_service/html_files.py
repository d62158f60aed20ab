"""Text out of HTML: what a reader sees, in blocks, with its headings."""

import re
from html.parser import HTMLParser

from agent_service.document_text import DocumentText
from agent_service.text_files import decoded

_HIDDEN = frozenset({"script", "style", "noscript", "template", "svg", "math", "iframe", "object", "select"})
_BLOCKS = re.compile(
    r"address|article|aside|blockquote|body|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure|footer|form|header|hr|html"
    r"|li|main|nav|ol|p|pre|section|summary|table|tbody|tfoot|thead|tr|ul|title"
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_CELLS = frozenset({"td", "th"})
_SPACES = re.compile(r"\s+")


class _Reader(HTMLParser):
    """Follows tags by counting, so that no depth of nesting costs anything."""

    def __init__(self, into: DocumentText) -> None:
        super().__init__(convert_charrefs=True)
        self._into = into
        self._words: list[str] = []
        self._hidden = 0
        self._preformatted = 0
        self._level: int | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag in _HEADINGS:
            self._end_block()
            self._level = _HEADINGS[tag]
        elif tag in _CELLS:
            if self._words:
                self._words.append(" | ")
        elif tag == "br":
            self._words.append("\n")
        elif _BLOCKS.fullmatch(tag):
            self._end_block()
            self._preformatted += tag == "pre"
            if tag == "li":
                self._words.append("- ")

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _HEADINGS or _BLOCKS.fullmatch(tag):
            self._end_block()
            if tag in _HEADINGS:
                self._level = None
            if tag == "pre":
                self._preformatted = max(0, self._preformatted - 1)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._words.append(data if self._preformatted else _SPACES.sub(" ", data))

    def close(self) -> None:
        super().close()
        self._end_block()

    def _end_block(self) -> None:
        text = "".join(self._words).strip("\n") if self._preformatted else _tidy("".join(self._words))
        self._words.clear()
        if text.strip() in ("", "-"):
            return
        if self._level is None:
            self._into.paragraph(text)
        else:
            self._into.heading(self._level, text)


def _tidy(text: str) -> str:
    return "\n".join(line for line in (re.sub(r"[ \t]+", " ", line).strip() for line in text.split("\n")) if line)


def read_html(data: bytes, into: DocumentText) -> None:
    """What a reader sees of the page."""
    _read(decoded(data), into)


def html_text(html: str) -> str:
    """What a reader sees of a page that is not longer than its source, as text alone."""
    into = DocumentText(limit=2 * len(html) + 1)
    _read(html, into)
    return into.text


def _read(html: str, into: DocumentText) -> None:
    reader = _Reader(into)
    reader.feed(html)
    reader.close()
