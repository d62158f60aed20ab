"""Files of each kind through the process that reads them, and those that it must refuse."""

import io
import json
import subprocess
import sys
import zipfile
from typing import Any

import pytest

OPTIONS: dict[str, Any] = {
    "name": "a.txt",
    "media_type": "",
    "chunk_tokens": 256,
    "pages": 10,
    "characters": 100_000,
    "memory_mib": 512,
    "seconds": 20,
}


def extract(data: bytes, **options: Any) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """The text, the chunks, and the last line."""
    arguments = json.dumps(OPTIONS | options)
    process = subprocess.run(
        [sys.executable, "-m", "agent_service.extractor", arguments], input=data, capture_output=True, check=True
    )
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    text = "".join(line["text"] for line in lines if "text" in line)
    chunks = [chunk for line in lines for chunk in line.get("chunks", ())]
    assert all(text[chunk["start"] : chunk["end"]] == chunk["text"] for chunk in chunks)
    return text, chunks, lines[-1]


def paths(chunks: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """What each chunk begins with, and its headings."""
    return [(chunk["text"].split("\n")[-1], chunk["headings"]) for chunk in chunks]


def docx(body: str, **files: str) -> bytes:
    """A DOCX file with this in its body."""
    written = io.BytesIO()
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{namespace}"><w:body>{body}</w:body></w:document>')
        for name, text in files.items():
            archive.writestr(f"word/{name}.xml", f'<w:{name} xmlns:w="{namespace}">{text}</w:{name}>')
    return written.getvalue()


def paragraph(text: str, style: str = "") -> str:
    """A paragraph of WordprocessingML."""
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def pdf(*pages: str, outline: dict[str, int] | None = None, password: str = "") -> bytes:
    """A PDF file with a line of text on each page."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    for line in pages:
        page = writer.add_blank_page(200, 200)
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 10 100 Td ({line}) Tj ET".encode() if line else b"")
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        page[NameObject("/Contents")] = writer._add_object(content)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
        )
    for title, number in (outline or {}).items():
        writer.add_outline_item(title=title, page_number=number)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def test_markdown_keeps_its_text_and_its_headings() -> None:
    source = "Start\n\n# One #\nText.\n\nTwo\n---\nMore.\n```\n# no heading\n```\n### Three\nEnd.\n"
    text, chunks, last = extract(source.encode(), name="a.md")
    assert text == source
    assert paths(chunks) == [
        ("Start", []),
        ("Text.", ["One"]),
        ("```", ["One", "Two"]),
        ("End.", ["One", "Two", "Three"]),
    ]
    assert last == {"done": {"pages": None, "characters": len(source), "chunks": 4}}


def test_html_is_what_a_reader_sees() -> None:
    source = (
        "<html><head><title>T</title><script>no()</script></head><body><h1>A <em>b</em></h1><p>One\n two.<br>Three</p>"
        "<div><ul><li>x</li><li>y</ul></div><pre>a\n  b</pre><table><tr><td>1</td><td>2</td></tr></table>"
        "<h2>C</h2>&lt;tag&gt;<style>p{}</style></body>"
    )
    text, chunks, _ = extract(source.encode(), name="x", media_type="text/html; charset=utf-8")
    assert text == "T\n\nA b\n\nOne two.\nThree\n\n- x\n\n- y\n\na\n  b\n\n1 | 2\n\nC\n\n<tag>"
    assert [chunk["headings"] for chunk in chunks] == [[], ["A b"], ["A b", "C"]]
    assert extract(b"<div>" * 100_000 + b"deep", name="x.html")[0] == "deep"


def test_source_code_is_cut_at_its_definitions() -> None:
    source = "import os\n\nclass A:\n    def b(self):\n        pass\n\nasync def c():\n    pass\n"
    text, chunks, _ = extract(source.encode(), name="m.py")
    assert text == source
    assert [chunk["headings"] for chunk in chunks] == [[], ["class A:", "def b(self):"], ["async def c():"]]


def test_a_table_names_each_value() -> None:
    text, _, _ = extract(b"id;name;sum\n1;Ada;2.5\n\n2;;3\n3;Bob;4;extra\n", name="t.csv")
    assert text == "id: 1; name: Ada; sum: 2.5\nid: 2; sum: 3\nid: 3; name: Bob; sum: 4; extra"


def test_docx_has_headings_and_tables_and_not_what_was_deleted() -> None:
    table = f"<w:tbl><w:tr><w:tc>{paragraph('a')}</w:tc><w:tc>{paragraph('b')}</w:tc></w:tr></w:tbl>"
    styles = '<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
    body = (
        paragraph("Eins", "berschrift1")
        + "<w:p><w:r><w:t>kept</w:t></w:r><w:del><w:r><w:t>gone</w:t></w:r></w:del></w:p>"
        + table
        + paragraph("Zwei", "Heading2")
        + paragraph("End &amp; over")
    )
    text, chunks, _ = extract(docx(body, styles=styles))
    assert text == "Eins\n\nkept\n\na | b\n\nZwei\n\nEnd & over"
    assert [chunk["headings"] for chunk in chunks] == [["Eins"], ["Eins", "Zwei"]]


def test_pdf_has_pages_and_the_headings_of_its_outline() -> None:
    _, chunks, last = extract(pdf("Alpha begins", "", "Gamma ends", outline={"Alpha": 0, "Gamma": 2}))
    assert [(chunk["text"], chunk["page"], chunk["headings"]) for chunk in chunks] == [
        ("Alpha begins", 1, ["Alpha"]),
        ("Gamma ends", 3, ["Gamma"]),
    ]
    assert last["done"]["pages"] == 3


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Grüße".encode("utf-16"), "Grüße"),
        ("Grüße".encode("utf-8-sig"), "Grüße"),
        ("Grüße".encode("latin-1"), "Grüße"),
        (b"a\r\nb\rc", "a\nb\nc"),
    ],
)
def test_text_of_other_encodings(data: bytes, text: str) -> None:
    assert extract(data)[0] == text


def bomb() -> bytes:
    """A small DOCX that unpacks to a great deal."""
    return docx(paragraph(" " * 140_000_000))


@pytest.mark.parametrize(
    ("data", "options", "why"),
    [
        (b"", {}, "It has no text."),
        (b" \n\t", {}, "It has no text."),
        (bytes(range(256)) * 100, {}, "It is no text"),
        (pdf("secret", password="x"), {}, "It is encrypted."),
        (pdf("", ""), {}, "Its pages have no text"),
        (pdf(*["x"] * 11), {}, "It has 11 pages, more than 10."),
        (pdf("x")[:300], {}, "It is a damaged PDF file."),
        (b"PK\x03\x04 nonsense", {}, "It is a damaged DOCX file."),
        (docx("<w:p>"), {}, "It is a damaged DOCX file."),
        (docx("<!DOCTYPE x><w:p/>"), {}, "It is a damaged DOCX file."),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", {}, "It is of an old or encrypted Office format."),
        (b"x" * 1001, {"characters": 1000}, "Its text has more than 1000 characters."),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_why(data: bytes, options: dict[str, Any], why: str) -> None:
    text, chunks, last = extract(data, **options)
    assert last["unreadable"].startswith(why)
    assert (text, chunks) == ("", [])


def test_a_zip_of_something_else_is_no_docx() -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("readme.txt", "hi")
    assert extract(written.getvalue())[2]["unreadable"].startswith("It is a ZIP archive, and no DOCX.")


def test_a_file_that_unpacks_to_too_much_is_given_up() -> None:
    data = bomb()
    assert len(data) < 1_000_000
    assert extract(data)[2]["unreadable"].startswith("word/document.xml in it unpacks to more than 128 MiB.")


def test_memory_is_bounded() -> None:
    *_, last = extract(b"x y " * 10_000_000, memory_mib=150, characters=10**9)
    assert last["unreadable"].startswith("Reading it takes more than 150 MiB of memory.")
