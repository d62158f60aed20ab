"""How the tests are shared out where two processes run them (`make test`)."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling


class WholeFiles(LoadFileScheduling):  # type: ignore[misc] # it has no types
    """One process has all of tests/e2e, which share an instance of Hearth; of the others, it has whole files."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/e2e" if nodeid.startswith("tests/e2e/") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> WholeFiles:
    """Instead of the one that `--dist` names."""
    return WholeFiles(config, log)
