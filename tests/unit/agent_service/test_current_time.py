"""What time it is, somewhere."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from agent_service.builtin.current_time import CurrentTime, CurrentTimeKind
from hearth_runtime.errors import InvalidArgument


@pytest.mark.parametrize(
    ("zone", "offset"),
    [
        ("UTC", timedelta()),
        ("gmt", timedelta()),
        ("Asia/Kolkata", timedelta(hours=5, minutes=30)),
        ("kolkata", timedelta(hours=5, minutes=30)),
        ("Addis Ababa", timedelta(hours=3)),
    ],
)
async def test_the_time_there(zone: str, offset: timedelta) -> None:
    result = await CurrentTime("UTC").call({"timezone": zone}, call_id="c")
    told = datetime.fromisoformat(result.data["time"])
    assert told.utcoffset() == offset
    assert abs(datetime.now(UTC) - told) < timedelta(minutes=1)
    assert result.content.startswith(f"{told:%A}, ")


async def test_no_zone_is_the_configured_one() -> None:
    result = await CurrentTime("Asia/Tokyo").call({}, call_id="c")
    assert result.content.endswith("+09:00 (Asia/Tokyo)")


@pytest.mark.parametrize("zone", ["Middle-earth", "Europe", "../../etc/passwd", "/etc/localtime", "a\0b", "x" * 64])
async def test_what_is_no_zone_says_so(zone: str) -> None:
    result = await CurrentTime("UTC").call({"timezone": zone}, call_id="c")
    assert result.is_error
    assert "Europe/Paris" in result.content


async def test_a_configured_zone_must_be_one() -> None:
    anybody: Any = None
    with pytest.raises(InvalidArgument, match="Narnia"):
        async with CurrentTimeKind().open({"timezone": "Narnia"}, anybody, anybody):
            pass
