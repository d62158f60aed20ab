"""Text out of DOCX: its paragraphs, headings and tables. Office Open XML: ECMA-376, part 1, section 17."""

import io
import re
import zipfile
from typing import Any
from xml.parsers import expat

from agent_service.document_text import DocumentText, Unreadable

MAX_XML_BYTES = 128 * 1024 * 1024
PIECE_BYTES = 256 * 1024
_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "
_VALUE, _STYLE_ID = f"{_W}val", f"{_W}styleId"
_HEADING = re.compile(r"heading ([1-9])", re.IGNORECASE)
_DAMAGED = "It is a damaged DOCX file. Open it in a word processor and save it again."


def read_docx(data: bytes, into: DocumentText) -> None:
    """Paragraphs and rows of tables, in their order; what was deleted in tracked changes is not there."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if "word/document.xml" not in archive.namelist():
                raise Unreadable("It is a ZIP archive, and no DOCX. Unpack it and upload what is in it.")
            styles = _Styles()
            if "word/styles.xml" in archive.namelist():
                _parse(archive, "word/styles.xml", styles)
            _parse(archive, "word/document.xml", _Body(styles.levels, into))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        if "password" in str(error) or "encrypted" in str(error):
            raise Unreadable("It is encrypted. Remove its password and upload it again.") from error
        raise Unreadable(_DAMAGED) from error
    except expat.ExpatError as error:
        raise Unreadable(_DAMAGED) from error


class _Elements:
    """Takes the elements of an XML file as they begin and end. No tree is made of them, however many there are."""

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""

    def end(self, tag: str) -> None:
        """An element ends."""

    def text(self, text: str) -> None:
        """Text within an element."""


def _parse(archive: zipfile.ZipFile, name: str, elements: _Elements) -> None:
    """Reads the file of that name, of which no more is unpacked than is allowed."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda tag, attributes: elements.begin(tag.removeprefix(_W), attributes)
    parser.EndElementHandler = lambda tag: elements.end(tag.removeprefix(_W))
    parser.CharacterDataHandler = elements.text
    # No word processor writes one; it could make a little XML stand for a lot.
    parser.StartDoctypeDeclHandler = _refuse
    unpacked = 0
    with archive.open(name) as file:
        while piece := file.read(PIECE_BYTES):
            unpacked += len(piece)
            if unpacked > MAX_XML_BYTES:
                raise Unreadable(f"{name} in it unpacks to more than {MAX_XML_BYTES // 1024**2} MiB.")
            parser.Parse(piece, False)
    parser.Parse(b"", True)


def _refuse(*_: Any) -> None:
    raise Unreadable(_DAMAGED)


class _Styles(_Elements):
    """The level of each style that is a heading: styles have ids in every language, and a name in common."""

    def __init__(self) -> None:
        self.levels = {f"Heading{level}": level for level in range(1, 10)} | {"Title": 1}
        self._style = ""

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "style":
            self._style = attributes.get(_STYLE_ID, "")
        elif tag == "name" and (found := _HEADING.fullmatch(attributes.get(_VALUE, ""))) is not None:
            self.levels[self._style] = int(found[1])


class _Body(_Elements):
    """What the body says."""

    def __init__(self, levels: dict[str, int], into: DocumentText) -> None:
        self._levels = levels
        self._into = into
        self._words: list[str] = []
        self._cells: list[str] = []
        self._level: int | None = None
        self._rows = self._deleted = self._texts = 0

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        match tag:
            case "p":
                self._words, self._level = [], None
            case "pStyle":
                self._level = self._levels.get(attributes.get(_VALUE, ""))
            case "t":
                self._texts += 1
            case "tab":
                self._words.append("\t")
            case "br" | "cr":
                self._words.append("\n")
            case "tr":
                self._rows += 1
            case "del":
                self._deleted += 1

    def text(self, text: str) -> None:
        if self._texts and not self._deleted:
            self._words.append(text)

    def end(self, tag: str) -> None:
        match tag:
            case "t":
                self._texts -= 1
            case "del":
                self._deleted -= 1
            case "p":
                self._end_paragraph()
            case "tr":
                self._rows -= 1
                self._into.paragraph(" | ".join(filter(None, self._cells)))
                self._cells.clear()

    def _end_paragraph(self) -> None:
        text = "".join(self._words).strip()
        self._words = []
        if self._rows:
            self._cells.append(text)
        elif self._level is not None:
            self._into.heading(self._level, text)
        else:
            self._into.paragraph(text)
