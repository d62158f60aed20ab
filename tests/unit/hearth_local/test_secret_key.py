"""The key of a home."""

import stat
from pathlib import Path

import pytest
from agent_service.secret_keys import SecretKeys
from hearth_local.home import Home, StartError
from hearth_local.parts import Options, services
from hearth_local.secret_key import secret_key


@pytest.fixture(autouse=True)
def _no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEARTH_SECRET_KEY", raising=False)


def test_a_key_is_made_once_and_is_for_nobody_else(tmp_path: Path) -> None:
    with Home(tmp_path).opened() as home:
        key = secret_key(home)
        assert secret_key(home) == key
    path = tmp_path / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == f"{key}\n"
    keys = SecretKeys.parse(key)
    assert keys.decrypt(keys.encrypt(b"x", purpose="p"), purpose="p") == b"x"


def test_only_agent_service_is_told(tmp_path: Path) -> None:
    with Home(tmp_path).opened() as home:
        parts = services(home, Options(port=8000, workers=2, ollama_url=None))
        knowing = [part.name for part in parts if part.env.get("HEARTH_SECRET_KEY") == secret_key(home)]
    assert knowing == ["agent", "worker-1", "worker-2"]


def test_a_key_of_the_environment_s_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTH_SECRET_KEY", "mine")
    assert secret_key(Home(tmp_path)) == "mine"
    assert not (tmp_path / "secret.key").exists()


def test_a_key_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "secret.key").mkdir()
    with pytest.raises(StartError, match="set HEARTH_SECRET_KEY"):
        secret_key(Home(tmp_path))
