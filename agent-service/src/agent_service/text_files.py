"""Text out of files that are text: plain, Markdown, source code, tables of values."""

import codecs
import csv
import io
import re

from agent_service.document_text import DocumentText, Heading, Unreadable, storable, title_of

# A text has hardly any of these; a file of another kind has many.
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f�]")
CONTROL_SHARE = 0.01

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")

# How a definition begins in the languages that most source code is in; those within another one are indented.
_DEFINITION = re.compile(
    r"(?P<indent> {0,4}|\t?)"
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|pub(?:\([a-z]+\))?|unsafe"
    r"|extern|inline|virtual|override|open|data|sealed|const|partial)\s+)*"
    r"(?:def|class|function|func|fn|interface|struct|enum|trait|impl|module|namespace|type|object|record|protocol"
    r"|extension|CREATE\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW|FUNCTION|PROCEDURE|TRIGGER))\b[ \t*]*[\w$(\"'`<]",
    re.IGNORECASE,
)

DELIMITERS = ",;\t|"
FIELD_CHARACTERS = 1024 * 1024


def decoded(data: bytes) -> str:
    """The bytes as text. Raises Unreadable where they are none."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            try:
                return _checked(data.decode(encoding))
            except UnicodeDecodeError as error:
                raise Unreadable(f"It says that it is {encoding}, and is not. Save it as UTF-8.") from error
    try:
        return _checked(data.decode("utf-8"))
    except UnicodeDecodeError:
        # What is no UTF-8 and yet text is mostly Western European, and each byte means something there.
        return _checked(data.decode("cp1252", "replace"))


def _checked(text: str) -> str:
    if len(_CONTROLS.findall(text)) > len(text) * CONTROL_SHARE:
        raise Unreadable(
            "It is no text, and of no kind that can be read. Upload text, Markdown, HTML, PDF, DOCX, CSV or code."
        )
    return text


def read_text(data: bytes, into: DocumentText) -> None:
    """The text as it is."""
    into.add(decoded(data))


def read_markdown(data: bytes, into: DocumentText) -> None:
    """The text as it is, with its headings. https://spec.commonmark.org/0.31.2/#atx-headings and #setext-headings."""
    text = storable(decoded(data))
    place, fence, previous = 0, "", ("", 0)
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\n")
        opened = _FENCE.match(bare)
        if fence:
            if opened is not None and opened[1].startswith(fence) and not bare.strip(" `~"):
                fence = ""
        elif opened is not None:
            fence = opened[1]
        elif (atx := _ATX.match(bare)) is not None:
            _note(into, place, len(atx[1]), atx[2])
        elif (setext := _SETEXT.match(bare)) is not None and previous[0].strip():
            _note(into, previous[1], 1 if setext[1].startswith("=") else 2, previous[0])
        is_text = not fence and opened is None and not bare.startswith(("#", ">", "- ", "* ", "|", "    "))
        previous = (bare if is_text else "", place)
        place += len(line)
    into.add(text)


def read_code(data: bytes, into: DocumentText) -> None:
    """The text as it is; its definitions are its headings."""
    text = storable(decoded(data))
    place = 0
    for line in text.splitlines(keepends=True):
        if (found := _DEFINITION.match(line)) is not None:
            _note(into, place, 2 if found["indent"] else 1, line)
        place += len(line)
    into.add(text)


def read_table(data: bytes, into: DocumentText) -> None:
    """A line for each row, in which each value stands after the name of its column."""
    text = storable(decoded(data))
    first_line = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=first_line.count)
    csv.field_size_limit(FIELD_CHARACTERS)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        names = [title_of(name) for name in next(rows, [])]
        for row in rows:
            values = [
                f"{names[n]}: {value.strip()}" if n < len(names) and names[n] else value.strip()
                for n, value in enumerate(row)
                if value.strip()
            ]
            if values:
                into.add(f"\n{'; '.join(values)}" if into.length else "; ".join(values))
    except csv.Error as error:
        raise Unreadable(
            f"Line {rows.line_num} of the table cannot be read: {error}. Mend it, or upload it as text."
        ) from error
    if not into.length:
        into.add("; ".join(filter(None, names)))


def _note(into: DocumentText, start: int, level: int, title: str) -> None:
    if title := title_of(title):
        into.headings.append(Heading(start=start, level=level, title=title))
