"""Text out of PDF: page by page, with the headings of its outline."""

import io
from collections.abc import Iterator
from typing import Any

from agent_service.document_text import DocumentText, Heading, Unreadable, title_of

OUTLINE_LIMIT = 5000
OUTLINE_DEPTH = 9


def read_pdf(data: bytes, into: DocumentText, *, max_pages: int) -> None:
    """Each page's text. Pages that are images have none."""
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, PyPdfError

    try:
        reader = PdfReader(io.BytesIO(data))
        # An empty password opens what only restricts printing and the like.
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("It is encrypted. Remove its password and upload it again.")
        count = len(reader.pages)
        if count > max_pages:
            raise Unreadable(f"It has {count} pages, more than {max_pages}. Split it, or raise HEARTH_DOCUMENT_PAGES.")
        outline = _outline(reader)
        for number, page in enumerate(reader.pages):
            text = page.extract_text()
            into.page()
            start = into.length
            into.add(text.strip())
            for level, title in outline.get(number, ()):
                # An outline names pages; where the title stands on its page is better.
                place = text.strip().find(title)
                _note(into, start + max(place, 0), level, title)
    except DependencyError as error:
        raise Unreadable("It is encrypted. Remove its password and upload it again.") from error
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError) as error:
        # What a damaged file makes pypdf stumble over has no type of its own.
        raise Unreadable("It is a damaged PDF file. Print it to a new PDF and upload that.") from error
    if not into.text.strip():
        raise Unreadable("Its pages have no text; they may be images. Have the text recognised, and upload the result.")


def _note(into: DocumentText, start: int, level: int, title: str) -> None:
    # Two that name the same place: the lower one has the upper one in its path only if that begins before it.
    if into.headings and into.headings[-1].start >= start:
        return
    into.headings.append(Heading(start=start, level=level, title=title))


def _outline(reader: Any) -> dict[int, list[tuple[int, str]]]:
    """Levels and titles by the number of their page, from 0."""
    found: dict[int, list[tuple[int, str]]] = {}
    for count, (level, entry) in enumerate(_entries(reader.outline, 1)):
        if count == OUTLINE_LIMIT:
            break
        number = reader.get_destination_page_number(entry)
        if number is not None and number >= 0 and (title := title_of(str(entry.title or ""))):
            found.setdefault(number, []).append((level, title))
    return found


def _entries(outline: Any, level: int) -> Iterator[tuple[int, Any]]:
    if level > OUTLINE_DEPTH:
        return
    for entry in outline:
        if isinstance(entry, list):
            yield from _entries(entry, level + 1)
        else:
            yield level, entry
