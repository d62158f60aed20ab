"""The manifests of deploy/kubernetes, rendered by Kustomize as `kubectl apply -k` does it."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())


@cache
def rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    """What an overlay comes to."""
    made = subprocess.run(
        [str(Path(sys.executable).parent / "kubectl"), "kustomize", str(FOLDER / "overlays" / overlay)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert made.stderr == ""  # deprecations
    return tuple(yaml.safe_load_all(made.stdout))


def of_kind(overlay: str, *kinds: str) -> dict[str, dict[str, Any]]:
    """The objects of these kinds, by name."""
    return {found["metadata"]["name"]: found for found in rendered(overlay) if found["kind"] in kinds}


def pods(overlay: str) -> dict[str, dict[str, Any]]:
    """The templates of all pods, by the name of what makes them."""
    return {
        name: found["spec"]["template"] for name, found in of_kind(overlay, "Deployment", "Job", "StatefulSet").items()
    }


def environment(overlay: str, template: dict[str, Any]) -> dict[str, str]:
    """What a pod's container has in its environment."""
    (container,) = template["spec"]["containers"]
    maps = of_kind(overlay, "ConfigMap")
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= maps[source["configMapRef"]["name"]]["data"]
    return found | {item["name"]: item["value"] for item in container.get("env", ())}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
