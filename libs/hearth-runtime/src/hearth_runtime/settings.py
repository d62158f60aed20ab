"""Settings that every process has; each service adds its own in its `settings` module.

They come from the environment (HEARTH_… unless another name is given), or from the file that VARIABLE_FILE names, and
are checked once, at start-up.
"""

import os
import sys
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, FilePath, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

type LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def variable_of(name: str, field: FieldInfo) -> str:
    """The environment variable of the setting `name`."""
    match field.validation_alias:
        case AliasChoices(choices=[str(first), *_]):
            return first
        case str(alias):
            return alias
    return f"HEARTH_{name.upper()}"


class FileVariables(PydanticBaseSettingsSource):
    """Settings out of files, as Docker and Kubernetes hand over secrets: VARIABLE_FILE names the one that holds it."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """What the file holds without the white space around it, `None` where none is named; SettingsError."""
        variable = variable_of(field_name, field)
        path = os.environ.get(f"{variable}_FILE")
        if not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise SettingsError(f"{variable} and {variable}_FILE are both set: remove one")
        try:
            text = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SettingsError(f"{variable}_FILE: {path} cannot be read ({reason})") from error
        return text, field_name, self.field_is_complex(field)

    def __call__(self) -> dict[str, Any]:
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, _, is_complex = self.get_field_value(field, name)
            if value is not None:
                found[name] = self.decode_complex_value(name, field, value) if is_complex else value
        return found


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
    connection_age_seconds: float = Field(
        30.0, gt=0, description="When a gRPC connection by TCP is made anew, so that callers find new replicas"
    )
    tls_ca: FilePath | None = Field(
        None,
        description="The certificates (PEM) that services' own are signed with; set, services speak mutual TLS by TCP",
    )
    tls_certificate: FilePath | None = Field(
        None,
        description="The certificate (PEM) of this process: for the name that others know it by, and for localhost",
    )
    tls_key: FilePath | None = Field(None, description="The private key (PEM) of that certificate")
    otlp_endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint"),
        description="Where traces go by OTLP over gRPC; unset, none are made",
    )
    trace_content: bool = Field(
        False,
        description="Whether spans hold the text of prompts, answers and tool calls: whoever reads traces reads it",
    )
    metrics_address: str | None = Field(
        None,
        pattern=r"^$|^.+:[0-9]{1,5}$",
        description="Where this process serves its metrics by HTTP, for Prometheus: host:port; unset, nowhere, and the "
        "gateway's /metrics has those of one replica of each service, and of the workers it is told of",
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        given = [self.tls_ca, self.tls_certificate, self.tls_key]
        if any(given) and not all(given):
            raise ValueError("HEARTH_TLS_CA, HEARTH_TLS_CERTIFICATE and HEARTH_TLS_KEY go together: set all or none")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, then the environment, then the files that it names."""
        return init_settings, env_settings, FileVariables(settings_cls)


def load_settings[S: RuntimeSettings](settings_type: type[S]) -> S:
    """Reads and checks the settings, or ends the process with a line per setting that is wrong."""
    try:
        return settings_type()
    except SettingsError as error:
        sys.stderr.write(f"{error}. See docs/configuration.md.\n")
        sys.exit(2)
    except ValidationError as error:
        for problem in error.errors():
            name = str(problem["loc"][0]) if problem["loc"] else "settings"
            field = settings_type.model_fields.get(name)
            variable = name if field is None else variable_of(name, field)
            # What looks like an address may carry a password, which is for no terminal and no log; so does a secret.
            value = repr(problem.get("input"))
            is_secret = field is None or "SecretStr" in str(field.annotation) or f"{variable}_FILE" in os.environ
            shown = "" if is_secret or "@" in value else f"; it is {value}"
            sys.stderr.write(f"{variable}: {problem['msg']}{shown}. See docs/configuration.md.\n")
        sys.exit(2)
