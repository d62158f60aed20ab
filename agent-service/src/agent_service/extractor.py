"""The process that reads a file: `python -m agent_service.extractor OPTIONS`, the file on its standard input.

OPTIONS is JSON: {"name", "media_type", "chunk_tokens", "pages", "characters", "memory_mib", "seconds"}. It writes lines
of JSON: {"text": a part of the text} in their order, {"chunks": [some chunks]} in theirs, and at last {"done":
{"pages", "characters", "chunks"}} or {"unreadable": why}. A file is a stranger's work: here it can use up no more
memory and processor time than its limits, and a crash of a parser is no crash of a worker.
"""

import json
import os
import re
import resource
import sys
import warnings
from dataclasses import asdict
from itertools import batched
from typing import Any

import orjson
from hearth_runtime.documents import PART_CHARACTERS

from agent_service.chunking import chunks_of
from agent_service.document_text import DocumentText, Unreadable
from agent_service.docx_files import read_docx
from agent_service.html_files import read_html
from agent_service.pdf_files import read_pdf
from agent_service.text_files import read_code, read_markdown, read_table, read_text

CHUNKS_PER_LINE = 200

_MARKDOWN = {".md", ".markdown", ".mdx"}
_HTML = {".html", ".htm", ".xhtml"}
_TABLES = {".csv", ".tsv"}
_CODE = re.compile(
    r"\.(py|pyi|[mc]?jsx?|tsx?|java|kts?|scala|groovy|go|rs|c|h|cc|cpp|cxx|hpp|hh|cs|fs|swift|mm?|rb|php|p[lm]|lua|r|jl|hs"
    r"|mli?|exs?|erl|cljs?|dart|sql|sh|bash|zsh|ps1|proto|graphql|tf|zig|nim|vue|svelte)"
)


def main() -> None:
    """Reads one file."""
    options = json.loads(sys.argv[1])
    limit_bytes = options["memory_mib"] * 1024**2
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (options["seconds"], options["seconds"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Parsers tell of what they pass over; nobody reads it here.
    warnings.simplefilter("ignore")
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    try:
        _extract(sys.stdin.buffer.read(), options)
    except Unreadable as error:
        _write({"unreadable": str(error)})
    except MemoryError:
        _write({"unreadable": f"Reading it takes more than {options['memory_mib']} MiB of memory. Split it."})


def _extract(data: bytes, options: dict[str, Any]) -> None:
    into = DocumentText(limit=options["characters"])
    _read(data, options, into)
    text = into.text
    if not text.strip():
        raise Unreadable("It has no text.")
    for start in range(0, len(text), PART_CHARACTERS):
        _write({"text": text[start : start + PART_CHARACTERS]})
    chunks = chunks_of(text, headings=into.headings, pages=into.pages, max_tokens=options["chunk_tokens"])
    count = 0
    for batch in batched(chunks, CHUNKS_PER_LINE):
        _write({"chunks": [asdict(chunk) for chunk in batch]})
        count += len(batch)
    _write({"done": {"pages": len(into.pages) or None, "characters": len(text), "chunks": count}})


def _read(data: bytes, options: dict[str, Any], into: DocumentText) -> None:
    """Reads the file as what it is; what it is called only counts where it is text."""
    ending = os.path.splitext(options["name"].lower())[1]
    media_type = options["media_type"].partition(";")[0].strip().lower()
    if b"%PDF-" in data[:1024]:
        read_pdf(data, into, max_pages=options["pages"])
    elif data.startswith(b"PK\x03\x04"):
        read_docx(data, into)
    elif data.startswith(b"\xd0\xcf\x11\xe0"):
        raise Unreadable("It is of an old or encrypted Office format. Save it as DOCX or PDF, without a password.")
    elif ending in _HTML or media_type in ("text/html", "application/xhtml+xml"):
        read_html(data, into)
    elif ending in _MARKDOWN or media_type in ("text/markdown", "text/x-markdown"):
        read_markdown(data, into)
    elif ending in _TABLES or media_type in ("text/csv", "text/tab-separated-values"):
        read_table(data, into)
    elif _CODE.fullmatch(ending) or (media_type.startswith("text/x-") and not ending):
        read_code(data, into)
    else:
        read_text(data, into)


def _write(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
