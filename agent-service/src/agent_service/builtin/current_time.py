"""The tool `current_time`: what time it is, somewhere."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec

UTC_NAMES = ("", "utc", "gmt", "z")


class CurrentTime:
    """The one tool of its kind."""

    def __init__(self, default_zone: str) -> None:
        self._default_zone = default_zone
        self.spec = ToolSpec(
            name="current_time",
            description="Tells the current date, time and weekday, in a time zone.",
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
        except (ZoneInfoNotFoundError, ValueError):
            return ToolResult(
                content=f"{name!r} is no time zone. Use an IANA name such as UTC or Europe/Paris.", is_error=True
            )
        text = now.isoformat(timespec="seconds")
        return ToolResult(content=f"{now:%A}, {text} ({name or 'UTC'})", data={"time": text, "weekday": f"{now:%A}"})


def zone_of(name: str) -> ZoneInfo | Any:
    """The time zone of this name. Raises ZoneInfoNotFoundError, and ValueError where it is no name at all."""
    return UTC if name.strip().lower() in UTC_NAMES else ZoneInfo(name.strip().replace(" ", "_"))


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
        yield [CurrentTime(config.get("timezone", "UTC"))]
