"""One gateway for all tests that leave it as it was."""

from collections.abc import AsyncIterator

import pytest
from servers.gateway import World, open_world


@pytest.fixture(scope="session")
async def world() -> AsyncIterator[World]:
    """A gateway and its services."""
    async with open_world() as opened:
        yield opened
