"""A whole Hearth in containers, as `make up` starts it, under a name and on a port of its own."""

import json
import os
import secrets
import socket
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STAND_INS = ROOT / "tests" / "compose" / "stand_ins"
# What cannot be had everywhere.
IMAGES = {
    "jaeger": "jaegertracing/jaeger:2.11.0",
    "grafana": "grafana/grafana:12.2.0",
    "ollama": "ollama/ollama",
}
PULL_SECONDS = 600
UP_SECONDS = 900


def run(*argv: str, env: dict[str, str] | None = None, timeout: float = 120) -> str:
    """What the command prints; fails with all that it said where it does."""
    ran = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=timeout)
    assert ran.returncode == 0, f"{' '.join(argv)}: exit {ran.returncode}\n{ran.stdout[-4000:]}\n{ran.stderr[-4000:]}"
    return ran.stdout


def can_be_had(image: str) -> bool:
    """Whether the image is here, or can be pulled."""
    for argv in (["docker", "image", "inspect", image], ["docker", "pull", "--quiet", image]):
        if subprocess.run(argv, capture_output=True, check=False, timeout=PULL_SECONDS).returncode == 0:
            return True
    return False


class Stack:
    """The containers. `folder` holds their secrets."""

    def __init__(self, folder: Path) -> None:
        self.stand_ins = [name for name, image in IMAGES.items() if not can_be_had(image)]
        self.name = f"hearth-test-{secrets.token_hex(4)}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.secrets = folder / "secrets"
        run("deploy/make-secrets", str(self.secrets))
        files = ["docker-compose.yml", *(f"{STAND_INS / name}.yml" for name in self.stand_ins)]
        self._env = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_FILE": ":".join(files),
            "COMPOSE_PROFILES": "ollama",
            "HEARTH_SECRETS": str(self.secrets),
            "HEARTH_PORT": str(self.port),
        }

    def compose(self, *arguments: str, timeout: float = 120) -> str:
        """What `docker compose` with these arguments prints."""
        return run("docker", "compose", *arguments, env=self._env, timeout=timeout)

    def up(self, *arguments: str) -> None:
        """Starts what is not there yet, and waits until all is healthy."""
        try:
            self.compose("up", "--build", "--wait", *arguments, timeout=UP_SECONDS)
        except AssertionError as error:
            error.add_note(self.compose("logs", "--tail", "20"))
            raise

    def down(self) -> None:
        """Ends all, and removes its data."""
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "5", timeout=300)

    def containers(self, service: str) -> list[str]:
        """The ids of the service's containers that run."""
        return self.compose("ps", "--quiet", service).split()

    def inspected(self) -> list[dict[str, Any]]:
        """What `docker inspect` says of all containers, those that ended among them."""
        found: list[dict[str, Any]] = json.loads(run("docker", "inspect", *self.compose("ps", "-aq").split()))
        return found

    def python(self, container: str, program: str) -> str:
        """What a Python program prints inside a container."""
        return run("docker", "exec", container, "python", "-c", program)
