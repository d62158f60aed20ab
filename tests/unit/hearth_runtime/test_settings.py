"""Settings out of the environment and of files that it names, read by a process of its own as services do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from hearth_runtime.settings import RuntimeSettings, load_settings
from pydantic import Field, SecretStr

class Settings(RuntimeSettings):
    key: SecretStr = SecretStr("")
    names: list[str] = Field([])

settings = load_settings(Settings)
print(settings.key.get_secret_value(), settings.names, settings.log_level, settings.otlp_endpoint, sep="|")
"""


def run(**env: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HEARTH_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**inherited, **env}, capture_output=True, text=True, check=False
    )


def written(folder: Path, text: str) -> str:
    path = folder / "value"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("variable", "text", "shown"),
    [
        ("HEARTH_KEY", "s3cret\n", "s3cret|[]|INFO|None"),
        ("HEARTH_NAMES", '["a", "b"]', "|['a', 'b']|INFO|None"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://jaeger:4317", "|[]|INFO|http://jaeger:4317"),
    ],
)
def test_a_setting_may_stand_in_a_file(tmp_path: Path, variable: str, text: str, shown: str) -> None:
    ran = run(**{f"{variable}_FILE": written(tmp_path, text)})
    assert (ran.returncode, ran.stdout.strip()) == (0, shown), ran.stderr


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    ran = run(HEARTH_KEY_FILE=str(tmp_path / "none"))
    assert ran.returncode == 2
    assert ran.stderr == (
        f"HEARTH_KEY_FILE: {tmp_path}/none cannot be read (No such file or directory). See docs/configuration.md.\n"
    )


def test_a_setting_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    ran = run(HEARTH_KEY="a", HEARTH_KEY_FILE=written(tmp_path, "b"))
    assert ran.returncode == 2
    assert ran.stderr == "HEARTH_KEY and HEARTH_KEY_FILE are both set: remove one. See docs/configuration.md.\n"


def test_what_a_file_holds_is_shown_nowhere(tmp_path: Path) -> None:
    ran = run(HEARTH_LOG_LEVEL_FILE=written(tmp_path, "s3cret"))
    assert ran.returncode == 2
    assert ran.stderr.startswith("HEARTH_LOG_LEVEL: ")
    assert "s3cret" not in ran.stderr + ran.stdout
