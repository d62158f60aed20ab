"""A home: its lock, its folders, its sockets."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hearth_local.home import MAX_SOCKET_BYTES, Home, StartError
from hearth_local.main import options_of


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="h") as path:
        yield Path(path)


def test_a_home_is_for_one(folder: Path) -> None:
    with Home(folder).opened(), pytest.raises(StartError, match="runs already"), Home(folder).opened():
        pass
    with Home(folder).opened():
        pass


def test_sockets_fit_into_their_bound(folder: Path) -> None:
    with Home(folder).opened() as short:
        assert short.sockets.parent == folder
    with Home(folder / ("x" * 120)).opened() as long:
        private = long.sockets
        assert len(str(long.socket("inference"))) <= MAX_SOCKET_BYTES
        assert private.is_dir()
        # Whoever looks for them in the home is led there.
        assert (long.path / "run").resolve() == private.resolve()
    assert not private.exists()
    assert not (long.path / "run").is_symlink()


def test_a_home_may_be_moved_and_its_end_may_have_been_untidy(folder: Path) -> None:
    home = folder / "home"
    with Home(home).opened() as short:
        short.socket("log").touch()
    home = home.rename(folder / ("x" * 120))
    with Home(home).opened() as long:
        assert (home / "run").resolve() == long.sockets.resolve()
    # As when it was killed.
    (home / "run").symlink_to(folder / "gone")
    with Home(home).opened() as long:
        assert (home / "run").resolve() == long.sockets.resolve()
    (home / "run").symlink_to(folder / "gone")
    home = home.rename(folder / "home")
    with Home(home).opened() as short:
        assert short.sockets == home / "run"
        assert short.sockets.is_dir()
        assert not short.sockets.is_symlink()


def test_a_home_that_cannot_be_written_says_so(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(StartError, match="HEARTH_HOME"), Home(folder / "file" / "home").opened():
        pass


def test_the_command_line_is_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_PORT", "8001")
    monkeypatch.setenv("HEARTH_HOME", "/there")
    monkeypatch.setenv("OLLAMA_URL", "http://there:11434")
    path, options = options_of(["--port", "8002", "--workers", "3"])
    assert (path, options.port, options.workers, options.ollama_url) == (Path("/there"), 8002, 3, "http://there:11434")


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "8000.5", "８０００"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(StartError, match="HEARTH_PORT"):
        options_of([f"--port={port}"])
