"""Text out of HTML: what a reader sees, in blocks, with its headings.

A page is anybody's text, so it is read once from its beginning to its end: Python's own parser looks for the end of a
tag or comment that has none again and again, and takes hours for a page of a megabyte. What is a tag is told as
https://html.spec.whatwg.org/multipage/parsing.html#tokenization tells it.
"""

import html as entities
import re

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
# Each matches at any place, if need be to the end of the page, and none goes back.
_TOKEN = re.compile(
    r"""
      (?P<text>[^<]++)
    | <!--(?:-?>|.*?(?:--!?>|\Z))
    | <(?P<end>/?)(?P<name>[a-z][^\s/>]*+)
       (?P<rest>(?:[^>=]++|=\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z))?+)*+)(?:>|\Z)
    | <[!?/][^>]*+(?:>|\Z)
    | (?P<less><)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
# What is between these tags is no HTML.
_RAW_ENDS = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in ("script", "style")}
# Numbers of characters that there are not; Python refuses to read the longest.
_NO_CHARACTER = re.compile(r"&#(?:[0-9]{8,}|x[0-9a-f]{7,});?", re.IGNORECASE)


class _Reader:
    """Follows tags by counting, so that no depth of nesting costs anything."""

    def __init__(self, into: DocumentText) -> None:
        self._into = into
        self._words: list[str] = []
        self._hidden = 0
        self._preformatted = 0
        self._level: int | None = None

    def read(self, html: str) -> None:
        """Reads a whole page."""
        place = 0
        while found := _TOKEN.match(html, place):
            place = found.end()
            if found["name"] is None:
                self._text(
                    entities.unescape(
                        _NO_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", found["text"] or found["less"] or "")
                    )
                )
                continue
            tag, is_closed = found["name"].lower(), found["rest"].endswith("/")
            if found["end"]:
                self._end(tag)
                continue
            self._start(tag)
            if is_closed:
                self._end(tag)
            elif tag in _RAW_ENDS:
                end = _RAW_ENDS[tag].search(html, place)
                place = end.start() if end else len(html)
        self._end_block()

    def _start(self, tag: str) -> None:
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

    def _end(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _HEADINGS or _BLOCKS.fullmatch(tag):
            self._end_block()
            if tag in _HEADINGS:
                self._level = None
            if tag == "pre":
                self._preformatted = max(0, self._preformatted - 1)

    def _text(self, data: str) -> None:
        if not self._hidden:
            self._words.append(data if self._preformatted else _SPACES.sub(" ", data))

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
    _Reader(into).read(html)
