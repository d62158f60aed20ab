"""SQL from the files in `sql/`: blocks that each begin with a line `-- name: create_task`.

Comments between that line and the statement say what its parameters are. PostgreSQL is sent the name as a comment in
their place, so that traces and `pg_stat_activity` have it.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from itertools import dropwhile
from types import MappingProxyType

_HEAD = re.compile(r"^-- name: ([a-z_]+)$", re.MULTILINE)


def load_queries(name: str) -> Mapping[str, str]:
    """The blocks of `sql/{name}.sql` by their names."""
    return parse_queries(files("storage_service").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8"))


def parse_queries(text: str) -> Mapping[str, str]:
    """The blocks in `text` by their names. Raises ValueError where a name is used twice or a block has no SQL."""
    _, *parts = _HEAD.split(text)
    blocks: dict[str, str] = {}
    for name, block in zip(parts[::2], parts[1::2], strict=True):
        if name in blocks:
            raise ValueError(f"the query {name} is there twice")
        lines = block.strip().removesuffix(";").split("\n")
        statement = "\n".join(dropwhile(lambda line: line.startswith("--") or not line.strip(), lines))
        if not statement:
            raise ValueError(f"the query {name} has no SQL")
        blocks[name] = f"/* {name} */ {statement}"
    return MappingProxyType(blocks)


def containing(text: str) -> str:
    """The pattern for LIKE that matches what contains `text`, whose own `%`, `_` and `\\` stand for themselves."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
