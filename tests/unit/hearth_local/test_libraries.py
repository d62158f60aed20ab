"""What the system must have for the embedded models."""

import sys
from pathlib import Path

import pytest
from hearth_local import libraries, main
from hearth_local.home import StartError


def test_what_is_there_is_no_matter() -> None:
    libraries.check_libraries()


@pytest.mark.skipif(sys.platform != "linux", reason="its names of libraries are Linux's")
def test_what_is_missing_is_named_with_what_to_do() -> None:
    with pytest.raises(StartError, match=r"needs libnowhere\.so\.1.*apt install libgomp1.*OLLAMA_URL"):
        libraries.check_libraries(["libnowhere.so.1"])


def missing() -> None:
    libraries.check_libraries(["libnowhere.so.1"])


@pytest.mark.skipif(sys.platform != "linux", reason="its names of libraries are Linux's")
def test_the_start_says_it_before_it_makes_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(main, "check_libraries", missing)
    monkeypatch.setattr(sys, "argv", ["hearth", "--home", str(tmp_path / "home"), "--port", "1"])
    monkeypatch.setattr(main, "check_port", lambda port: None)
    monkeypatch.delenv("OLLAMA_URL", raising=False)
    with pytest.raises(SystemExit, match=r"hearth: The embedded model needs libnowhere\.so\.1"):
        main.main()
    assert not (tmp_path / "home").exists()
