"""References within a JSON document: `#`, and `#/$defs/name`, a JSON Pointer in a fragment.

https://www.rfc-editor.org/rfc/rfc6901#section-6
"""

from typing import Any
from urllib.parse import unquote


def target_of(root: Any, reference: str) -> Any:
    """What the reference leads to in `root`. Raises ValueError where it leads elsewhere, KeyError where to nothing."""
    if reference != "#" and not reference.startswith("#/"):
        raise ValueError(reference)
    target = root
    for step in unquote(reference).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        match target:
            case dict() if name in target:
                target = target[name]
            case list() if name.isascii() and name.isdecimal() and int(name) < len(target):
                target = target[int(name)]
            case _:
                raise KeyError(reference)
    return target
