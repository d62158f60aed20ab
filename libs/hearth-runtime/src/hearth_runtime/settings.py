"""Settings that every process has; each service adds its own in its `settings` module.

They come from the environment (HEARTH_… unless another name is given) and are checked once, at start-up.
"""

import sys
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

type LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class RuntimeSettings(BaseSettings):
    """What every process needs to know."""

    model_config = SettingsConfigDict(env_prefix="HEARTH_", frozen=True, extra="ignore", populate_by_name=True)

    listen_address: str = Field("127.0.0.1:0", description="Where this process serves gRPC: host:port or unix:PATH")
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people or as JSON")
    log_level: LogLevel = Field("INFO", description="The least level that is logged")
    log_stdout_level: LogLevel | None = Field(None, description="The least level on stdout, where it differs")
    log_dir: Path | None = Field(None, description="A folder for rotating log files, one per process")
    grace_seconds: float = Field(10.0, gt=0, le=600, description="Within how long a process ends after SIGTERM")
    rpc_timeout_seconds: float = Field(10.0, gt=0, le=600, description="The deadline of a call between services")
    otlp_endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint"),
        description="Where traces go by OTLP over gRPC; unset, none are made",
    )


def load_settings[S: RuntimeSettings](settings_type: type[S]) -> S:
    """Reads and checks the settings, or ends the process with a line per setting that is wrong."""
    try:
        return settings_type()
    except ValidationError as error:
        for problem in error.errors():
            name = str(problem["loc"][0]) if problem["loc"] else "settings"
            variable = name if name.isupper() else f"HEARTH_{name.upper()}"
            # What looks like an address may carry a password, which is for no terminal and no log, and so a secret.
            value = repr(problem.get("input"))
            field = settings_type.model_fields.get(name)
            is_secret = field is not None and "SecretStr" in str(field.annotation)
            shown = "" if is_secret or "@" in value else f"; it is {value}"
            sys.stderr.write(f"{variable}: {problem['msg']}{shown}. See docs/configuration.md.\n")
        sys.exit(2)
