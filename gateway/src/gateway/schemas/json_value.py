"""What JSON of a client's own must be to be kept: of a bounded size, and storable."""

import json
from collections.abc import Callable
from typing import Any


def storable_json(max_bytes: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A check that raises ValueError where a JSON object has more bytes, or cannot be stored."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
            size = len(text.encode())
        except RecursionError:
            raise ValueError("is nested too deep") from None
        except ValueError:
            raise ValueError("holds NaN, an infinity or half of a surrogate pair, which JSON in UTF-8 lacks") from None
        if size > max_bytes:
            raise ValueError(f"has {size} bytes; at most {max_bytes} are taken")
        if "\\u0000" in text.replace("\\\\", ""):
            raise ValueError("holds a NUL character, which cannot be stored: leave it out")
        return value

    return check
