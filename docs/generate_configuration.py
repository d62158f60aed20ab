"""Writes `docs/configuration.md` and `.env.example` from the settings of all processes: `make docs`."""

import json
from pathlib import Path

from agent_service.settings import ApiSettings, WorkerSettings
from gateway.settings import GatewaySettings
from hearth_runtime.settings import RuntimeSettings, variable_of
from inference_service.settings import InferenceSettings
from log_service.settings import LogSettings
from storage_service.settings import StorageSettings

ROOT = Path(__file__).resolve().parent.parent

PROCESSES: dict[str, type[RuntimeSettings]] = {
    "gateway": GatewaySettings,
    "agent-service, api": ApiSettings,
    "agent-service, worker": WorkerSettings,
    "inference-service": InferenceSettings,
    "log-service": LogSettings,
    "storage-service": StorageSettings,
}

LOCAL = [
    ("HEARTH_HOME", ".hearth", "`make run`: the folder for data, logs and sockets"),
    ("HEARTH_PORT", "8000", "The port of the gateway on 127.0.0.1"),
    ("HEARTH_WORKERS", "1", "`make run`: how many worker processes"),
    ("OLLAMA_URL", "", "`make run`: a real Ollama instead of the embedded models"),
]

COMPOSE = [
    ("HEARTH_SECRETS", "./deploy/secrets", "`make up`: the folder of secrets"),
    ("COMPOSE_PROFILES", "", "`make up`: `ollama` starts an Ollama too; else OLLAMA_URL says where one is"),
    ("OLLAMA_MODELS", "llama3.2:1b nomic-embed-text", "`make up`: the models that this Ollama pulls at its start"),
    ("COMPOSE_FILE", "", "`make up`: `docker-compose.yml:docker-compose.observe.yml` opens Grafana and others"),
    ("GRAFANA_PORT", "3000", "The port of Grafana on 127.0.0.1, where docker-compose.observe.yml is used"),
    ("PROMETHEUS_PORT", "9090", "The port of Prometheus, in the same way"),
    ("JAEGER_PORT", "16686", "The port of Jaeger, in the same way"),
]

HEAD = """# Configuration

Settings are environment variables, read and checked once at start-up: a wrong one ends the process with a line that
names it. Each may stand in a file instead, as secrets should: `VARIABLE_FILE` names it. This page is written by
`make docs` from the settings themselves.

`make run` sets all addresses itself. What a person sets there:

"""

COMPOSE_HEAD = """
`make up` reads these, and all others, from `.env`:

"""


def rows(settings: type[RuntimeSettings], *, own: bool) -> list[tuple[str, str, str]]:
    """Variable, default and description of each field: those of every process, or the own and the changed ones."""
    shared = RuntimeSettings.model_fields
    found = []
    for name, field in settings.model_fields.items():
        is_own = name not in shared or field.default != shared[name].default
        if is_own != own:
            continue
        default = field.get_default(call_default_factory=True)
        # As it is written in the environment: what has parts, as JSON.
        shown = json.dumps(default) if isinstance(default, list | dict) else str(default)
        text = "" if default is None or field.is_required() else shown
        found.append((variable_of(name, field), text, field.description or ""))
    return found


def table(lines: list[tuple[str, str, str]]) -> str:
    """A Markdown table of them."""
    body = [
        f"| `{name}` | {f'`{default}`' if default else ''} | {description} |" for name, default, description in lines
    ]
    return "\n".join(["| variable | default | what it is |", "| --- | --- | --- |", *body, ""])


def configuration() -> str:
    """The page."""
    parts = [
        HEAD,
        table(LOCAL),
        COMPOSE_HEAD,
        table(COMPOSE),
        "\n## Every process\n\n",
        table(rows(RuntimeSettings, own=False)),
    ]
    for process, settings in PROCESSES.items():
        parts += [f"\n## {process}\n\n", table(rows(settings, own=True))]
    return "".join(parts)


def environment_example() -> str:
    """The file: each variable once, at its default, commented out."""
    seen: dict[str, tuple[str, str]] = {name: (default, text) for name, default, text in (*LOCAL, *COMPOSE)}
    for settings in (RuntimeSettings, *PROCESSES.values()):
        for name, default, text in rows(settings, own=settings is not RuntimeSettings):
            seen.setdefault(name, (default, text))
    lines = [
        "# Every variable that Hearth reads, at its default. docs/configuration.md says which process reads which."
    ]
    for name, (default, text) in seen.items():
        lines += ["", f"# {text}", f"# {name}={default}"]
    return "\n".join(lines) + "\n"


FILES = {ROOT / "docs" / "configuration.md": configuration, ROOT / ".env.example": environment_example}

if __name__ == "__main__":
    for path, render in FILES.items():
        path.write_text(render())
