"""Durations as model hosts write them: "5m", "1h30m", "0", "-1"."""

import re
from typing import Any

_DURATION = re.compile(r"(\d{1,9}(\.\d{1,3})?(ms|s|m|h)){1,4}", re.ASCII)
_SECONDS = re.compile(r"-?\d{1,9}(\.\d{1,3})?", re.ASCII)
_MAX_SECONDS = 10**9


def as_duration(value: Any) -> Any:
    """A duration or a number of seconds as a duration: 300 is "300s", 0 is "0", and all that is negative is "-1"."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    if isinstance(value, str):
        if _DURATION.fullmatch(value):
            return value
        if not _SECONDS.fullmatch(value):
            raise ValueError('is no duration: write "5m", "1h30m", a number of seconds, "0" or "-1"')
        value = float(value)
    if value < 0:
        return "-1"
    if not value < _MAX_SECONDS:
        raise ValueError(f'is longer than {_MAX_SECONDS} seconds: write "-1" to keep the model loaded')
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s" if value else "0"
