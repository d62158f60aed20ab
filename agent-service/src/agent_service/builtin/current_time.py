"""The tool `current_time`: what time it is, somewhere."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from hearth_runtime.errors import InvalidArgument

from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec

UTC_NAMES = ("", "utc", "gmt", "z")


class CurrentTime:
    """The one tool of its kind."""

    def __init__(self, default_zone: str) -> None:
        self._default_zone = default_zone
        self.spec = ToolSpec(
            name="current_time",
            description="Tells what time it is, and which day and date it is today, in a time zone.",
            parameters={
                "type": "object",
                "properties": {
                    "timezone": {
                        "type": "string",
                        "maxLength": 64,
                        "default": default_zone,
                        "description": "The IANA name of the time zone, such as Europe/Paris",
                    }
                },
                "additionalProperties": False,
            },
            repeatable=True,
            timeout_seconds=5,
            result_characters=2000,
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        name = arguments.get("timezone", self._default_zone)
        try:
            now = datetime.now(zone_of(name))
        except ZoneInfoNotFoundError:
            return ToolResult(
                content=f"{name!r} is no time zone. Use an IANA name such as UTC or Europe/Paris.", is_error=True
            )
        text = now.isoformat(timespec="seconds")
        return ToolResult(content=f"{now:%A}, {text} ({name or 'UTC'})", data={"time": text, "weekday": f"{now:%A}"})


def zone_of(name: str) -> ZoneInfo | Any:
    """The time zone of this name, or of this city alone: Europe/Paris, paris. Raises ZoneInfoNotFoundError."""
    wanted = name.strip().lower().replace(" ", "_")
    if wanted in UTC_NAMES:
        return UTC
    if wanted not in _zones():
        raise ZoneInfoNotFoundError(name)
    return ZoneInfo(_zones()[wanted])


@cache
def _zones() -> dict[str, str]:
    """Names and cities in small letters, each with the name of its zone; of a city, the first in the alphabet."""
    names = sorted(available_timezones())
    cities = {name.rpartition("/")[2].lower(): name for name in reversed(names) if "/" in name}
    return cities | {name.lower(): name for name in names}


class CurrentTimeKind:
    """`current_time`."""

    name = "current_time"
    description = "The current date, time and weekday."
    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "timezone": {
                "type": "string",
                "maxLength": 64,
                "description": "The time zone where a call names none: an IANA name; UTC if left out",
            }
        },
        "additionalProperties": False,
    }

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        zone = config.get("timezone", "UTC")
        try:
            zone_of(zone)
        except ZoneInfoNotFoundError as error:
            raise InvalidArgument(f"`timezone` is {zone!r}; use an IANA name such as UTC or Europe/Paris.") from error
        yield [CurrentTime(zone)]
