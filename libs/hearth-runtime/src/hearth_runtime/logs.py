"""Structured log lines by Loguru: a constant message and fields, to stdout and a rotating file."""

import logging
import sys
from typing import TYPE_CHECKING, Any

import orjson
from loguru import logger
from opentelemetry import trace

from hearth_runtime.settings import RuntimeSettings

if TYPE_CHECKING:
    from loguru import Message, Record

ROTATION = "10 MB"
RETENTION = 5


def configure_logging(service: str, settings: RuntimeSettings) -> None:
    """Sends Loguru's lines, and those of the standard library's loggers, where the settings say."""
    as_json = settings.log_format == "json"
    logger.remove()
    logger.configure(extra={"service": service}, patcher=_add_trace_id)
    logger.add(
        _write_json if as_json else sys.stdout,
        level=settings.log_stdout_level or settings.log_level,
        format=_line_for_people,
        backtrace=False,
        diagnose=False,
    )
    if settings.log_dir is not None:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        logger.add(
            settings.log_dir / f"{service}.log",
            level=settings.log_level,
            format=_json_format if as_json else _line_for_people,
            rotation=ROTATION,
            retention=RETENTION,
            backtrace=False,
            diagnose=False,
            enqueue=True,
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
    fields: dict[str, Any] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "message": record["message"],
        **record["extra"],
    }
    if record["exception"] is not None and record["exception"].type is not None:
        fields["error"] = record["exception"].type.__name__
        fields["error_message"] = str(record["exception"].value)
    return fields


def _write_json(message: "Message") -> None:
    sys.stdout.write(orjson.dumps(_fields(message.record), default=str).decode() + "\n")
    sys.stdout.flush()


def _json_format(record: "Record") -> str:
    record["extra"]["_json"] = orjson.dumps(_fields(record), default=str).decode()
    return "{extra[_json]}\n"


def _line_for_people(record: "Record") -> str:
    fields = {k: v for k, v in record["extra"].items() if k not in ("service", "_json")}
    record["extra"]["_fields"] = " ".join(f"{k}={v}" for k, v in fields.items() if k != "_fields")
    return "{time:HH:mm:ss.SSS} {level: <7} {extra[service]: <9} {message} {extra[_fields]}\n{exception}"
