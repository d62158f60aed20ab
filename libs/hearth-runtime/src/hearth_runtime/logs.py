"""Structured log lines by Loguru: a constant message and fields, to stdout and a rotating file."""

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

import orjson
from loguru import logger
from opentelemetry import trace

from hearth_runtime.settings import RuntimeSettings

if TYPE_CHECKING:
    from loguru import Record

ROTATION = "10 MB"
RETENTION = 5


def configure_logging(service: str, settings: RuntimeSettings) -> None:
    """Sends Loguru's lines, and those of the standard library's loggers, where the settings say."""
    line = _line_of_json if settings.log_format == "json" else _line_for_people
    logger.remove()
    logger.configure(extra={"service": service}, patcher=_add_trace_id)
    logger.add(
        sys.stdout,
        level=settings.log_stdout_level or settings.log_level,
        format=line,
        backtrace=False,
        diagnose=False,
    )
    if settings.log_dir is not None:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        logger.add(
            settings.log_dir / f"{service}.log",
            level=settings.log_level,
            format=line,
            rotation=ROTATION,
            retention=RETENTION,
            backtrace=False,
            diagnose=False,
        )
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.INFO, force=True)
    for noisy in ("httpx", "httpcore", "grpc", "asyncio", "watchfiles"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _ToLoguru(logging.Handler):
    """Passes a standard library record on to Loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        level: str | int = record.levelname if record.levelname in logger._core.levels else record.levelno  # type: ignore[attr-defined]
        logger.bind(logger=record.name).opt(exception=record.exc_info).log(level, "{}", record.getMessage())


def _add_trace_id(record: "Record") -> None:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        record["extra"]["trace_id"] = f"{context.trace_id:032x}"


def _fields(record: "Record") -> dict[str, Any]:
    """What was bound or passed, without the texts that the formats below leave there for their templates."""
    return {name: value for name, value in record["extra"].items() if not name.startswith("_")}


def _line_of_json(record: "Record") -> str:
    line: dict[str, Any] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "message": record["message"],
        **_fields(record),
    }
    if record["exception"] is not None and record["exception"].type is not None:
        line["error"] = record["exception"].type.__name__
        line["error_message"] = str(record["exception"].value)
        line["traceback"] = "".join(traceback.format_exception(record["exception"].value))
    record["extra"]["_json"] = orjson.dumps(line, default=str).decode()
    return "{extra[_json]}\n"


def _line_for_people(record: "Record") -> str:
    fields = _fields(record)
    fields.pop("service", None)
    record["extra"]["_fields"] = " ".join(f"{name}={value}" for name, value in fields.items())
    return "{time:HH:mm:ss.SSS} {level: <7} {extra[service]: <9} {message} {extra[_fields]}\n{exception}"
