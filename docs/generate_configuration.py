"""Writes `docs/configuration.md` and `.env.example` from the settings of all processes: `make docs`."""

from pathlib import Path

from agent_service.settings import ApiSettings, WorkerSettings
from gateway.settings import GatewaySettings
from hearth_runtime.settings import RuntimeSettings
from inference_service.settings import InferenceSettings
from log_service.settings import LogSettings
from pydantic import AliasChoices
from pydantic.fields import FieldInfo
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

HEAD = """# Configuration

Settings are environment variables, read and checked once at start-up: a wrong one ends the process with a line that
names it. This page is written by `make docs` from the settings themselves.

`make run` sets all addresses itself. What a person sets there:

"""


def variable(name: str, field: FieldInfo) -> str:
    """The environment variable of a field."""
    match field.validation_alias:
        case AliasChoices(choices=[str(first), *_]):
            return first
        case str(alias):
            return alias
    return f"HEARTH_{name.upper()}"


def rows(settings: type[RuntimeSettings], *, own: bool) -> list[tuple[str, str, str]]:
    """Variable, default and description of each field: those of every process, or the own and the changed ones."""
    shared = RuntimeSettings.model_fields
    found = []
    for name, field in settings.model_fields.items():
        is_own = name not in shared or field.default != shared[name].default
        if is_own != own:
            continue
        default = field.get_default(call_default_factory=True)
        text = "" if default is None or field.is_required() else str(default)
        found.append((variable(name, field), text, field.description or ""))
    return found


def table(lines: list[tuple[str, str, str]]) -> str:
    """A Markdown table of them."""
    body = [
        f"| `{name}` | {f'`{default}`' if default else ''} | {description} |" for name, default, description in lines
    ]
    return "\n".join(["| variable | default | what it is |", "| --- | --- | --- |", *body, ""])


def configuration() -> str:
    """The page."""
    parts = [HEAD, table(LOCAL), "\n## Every process\n\n", table(rows(RuntimeSettings, own=False))]
    for process, settings in PROCESSES.items():
        parts += [f"\n## {process}\n\n", table(rows(settings, own=True))]
    return "".join(parts)


def environment_example() -> str:
    """The file: each variable once, at its default, commented out."""
    seen: dict[str, tuple[str, str]] = {name: (default, text) for name, default, text in LOCAL}
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
