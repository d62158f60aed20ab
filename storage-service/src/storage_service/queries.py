"""SQL from the files in `sql/`: blocks that each begin with a line `-- name: create_tasks`.

Comments between that line and the statement say what its parameters are. PostgreSQL is sent the name as a comment in
their place, so that traces and `pg_stat_activity` have it. What statements share is a block that begins with
`-- part: claiming`, and stands above them; in each, a line `-- include: claiming` stands for it.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from itertools import dropwhile
from types import MappingProxyType

_HEAD = re.compile(r"^-- (name|part): ([a-z_]+)$", re.MULTILINE)
_INCLUDE = re.compile(r"^-- include: *(.*)$", re.MULTILINE)


def load_queries(name: str) -> Mapping[str, str]:
    """The blocks of `sql/{name}.sql` by their names."""
    return parse_queries(files("storage_service").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8"))


def parse_queries(text: str) -> Mapping[str, str]:
    """The blocks in `text` by their names. Raises ValueError where a name is used twice, a block has no SQL, or a part
    that is included does not stand above."""
    _, *found = _HEAD.split(text)
    parts: dict[str, str] = {}
    blocks: dict[str, str] = {}

    def part(include: re.Match[str]) -> str:
        if include[1] not in parts:
            raise ValueError(f"there is no part {include[1]} above where it is included")
        return parts[include[1]]

    for kind, name, block in zip(found[::3], found[1::3], found[2::3], strict=True):
        if name in blocks or name in parts:
            raise ValueError(f"the query {name} is there twice")
        lines = _INCLUDE.sub(part, block.strip().removesuffix(";")).split("\n")
        statement = "\n".join(dropwhile(lambda line: line.startswith("--") or not line.strip(), lines))
        if not statement:
            raise ValueError(f"the query {name} has no SQL")
        if kind == "part":
            parts[name] = statement
        else:
            blocks[name] = f"/* {name} */ {statement}"
    return MappingProxyType(blocks)


def containing(text: str) -> str:
    """The pattern for LIKE that matches what contains `text`, whose own `%`, `_` and `\\` stand for themselves."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
