"""The workflows on GitHub are what it takes, and do what a person at this repository can do too."""

import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
SERVICES = {"gateway", "agent-service", "inference-service", "log-service", "storage-service"}

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def schema(name: str) -> jsonschema_rs.Validator:
    """A schema of SchemaStore, which the package check-jsonschema brings."""
    folder = files("check_jsonschema").joinpath("builtin_schemas", "vendor")
    return jsonschema_rs.validator_for(json.loads(folder.joinpath(f"{name}.json").read_text()))


def read(path: Path) -> Any:
    # YAML 1.1 takes `on` for a truth value.
    return {("on" if key is True else key): value for key, value in yaml.safe_load(path.read_text()).items()}


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


@each_workflow
def test_it_is_a_workflow(path: Path) -> None:
    validator = schema("github-workflows")
    validator.validate(read(path))
    with pytest.raises(jsonschema_rs.ValidationError):
        validator.validate(read(path) | {"jbos": {}})


@each_workflow
def test_it_calls_targets_that_there_are(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = [name for step in steps(path) for name in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))]
    assert called
    assert set(called) <= targets


@each_workflow
def test_every_job_ends_and_may_only_read_unless_it_publishes(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 75, name
        assert name == "publish" or "permissions" not in job, name


@each_workflow
def test_no_text_of_others_is_run_as_a_command(path: Path) -> None:
    """https://docs.github.com/en/actions/reference/security/secure-use: it comes in by the environment."""
    for step in steps(path):
        assert "${{" not in step.get("run", "")


@each_workflow
def test_actions_are_named_with_their_version(path: Path) -> None:
    for step in steps(path):
        assert ("uses" in step) != ("run" in step)
        assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])


def test_images_are_built_of_every_service() -> None:
    for path in WORKFLOWS:
        job = read(path)["jobs"]["images"]
        assert set(job["strategy"]["matrix"]["service"]) == SERVICES
        (build,) = [
            step["with"] for step in job["steps"] if step.get("uses", "").startswith("docker/build-push-action")
        ]
        assert (ROOT / build["file"]).exists()
        assert build["build-args"] == "SERVICE=${{ matrix.service }}"
    assert {path.parent.name for path in ROOT.glob("*/pyproject.toml")} - {"proto"} == SERVICES


def test_libraries_images_and_actions_are_kept_current() -> None:
    found = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())
    schema("dependabot").validate(found)
    assert {update["package-ecosystem"] for update in found["updates"]} >= {"uv", "docker", "github-actions"}
    for update in found["updates"]:
        assert (ROOT / update["directory"].lstrip("/")).is_dir()


def test_the_changelog_has_the_version_that_is_released_or_will_be() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    heads = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] in ("Unreleased", version)
    assert all(head == "Unreleased" or re.fullmatch(r"\d+\.\d+\.\d+", head) for head in heads)


def test_the_license_is_the_one_that_is_named() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    text = (ROOT / "LICENSE").read_text()
    assert named == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
