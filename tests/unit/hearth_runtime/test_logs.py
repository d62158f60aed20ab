"""Log lines as an operator gets them, from a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import logging
from hearth_runtime.logs import configure_logging
from hearth_runtime.settings import RuntimeSettings, load_settings
from loguru import logger
configure_logging("storage", load_settings(RuntimeSettings))
with logger.contextualize(task_id="t1"):
    logger.info("task accepted", attempt=2)
logging.getLogger("uvicorn").warning("from the standard library: %d", 7)
logger.debug("too fine")
try:
    1 / 0
except ZeroDivisionError as error:
    logger.opt(exception=error).error("it failed", where="{here}")
logger.complete()
"""


def run(**env: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HEARTH_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**inherited, **env}, capture_output=True, text=True, check=False
    )


def test_lines_in_json_have_their_fields(tmp_path: Path) -> None:
    ran = run(HEARTH_LOG_FORMAT="json", HEARTH_LOG_DIR=str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["message"] for line in lines] == [
        "task accepted",
        "from the standard library: 7",
        "it failed",
    ]
    assert lines[0]["service"] == "storage"
    assert (lines[0]["task_id"], lines[0]["attempt"], lines[0]["level"]) == ("t1", 2, "INFO")
    assert (lines[2]["error"], lines[2]["error_message"]) == ("ZeroDivisionError", "division by zero")
    assert lines[2]["where"] == "{here}"
    assert not [name for line in lines for name in line if name.startswith("_")]
    assert "ZeroDivisionError" in lines[2]["traceback"]
    kept = [json.loads(line) for line in (tmp_path / "storage.log").read_text().splitlines() if line.startswith("{")]
    assert [line["message"] for line in kept] == [line["message"] for line in lines]


def test_lines_for_people() -> None:
    ran = run()
    first = ran.stdout.splitlines()[0]
    assert "INFO    storage   task accepted" in first
    assert "task_id=t1 attempt=2" in first
    assert "ZeroDivisionError" in ran.stdout


def test_a_level_of_its_own_on_stdout(tmp_path: Path) -> None:
    ran = run(HEARTH_LOG_STDOUT_LEVEL="ERROR", HEARTH_LOG_DIR=str(tmp_path))
    assert "task accepted" not in ran.stdout
    assert "task accepted" in (tmp_path / "storage.log").read_text()


def test_a_wrong_setting_is_one_line() -> None:
    ran = run(HEARTH_LOG_LEVEL="LOUD", HEARTH_GRACE_SECONDS="0")
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 2
    assert "HEARTH_LOG_LEVEL: " in ran.stderr
    assert "HEARTH_GRACE_SECONDS: " in ran.stderr
