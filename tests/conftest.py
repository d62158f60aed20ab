"""How the tests are shared out where two processes run them (`make test`)."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process has all of tests/e2e, which share an instance of Hearth; of the others, it has whole files."""
    for item in items:
        path = item.path.relative_to(TESTS)
        group = "e2e" if path.parts[0] == "e2e" else str(path)
        item.add_marker(pytest.mark.xdist_group(group))
