"""The documents say what is so."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_configuration", ROOT / "docs" / "generate_configuration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_configuration_is_what_the_settings_say() -> None:
    for path, render in generator().FILES.items():
        assert path.read_text() == render(), f"{path.name} is not current: make docs"


def test_the_settings_that_code_reads_are_all_documented() -> None:
    documented = (ROOT / "docs" / "configuration.md").read_text()
    used: set[str] = set()
    for source in ROOT.glob("*/src/**/*.py"):
        used |= set(re.findall(r"\bHEARTH_[A-Z_]+[A-Z]\b", source.read_text()))
    assert {name for name in used if f"`{name}`" not in documented} == set()


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_names_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (*ROOT.glob("*.md"), ROOT / "docs" / "development.md"):
        named = set(re.findall(r"\bmake ([a-z][a-z-]+)", page.read_text()))
        assert named <= targets, page.name
