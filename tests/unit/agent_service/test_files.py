"""Files in a directory that nothing gets out of."""

import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from agent_service.builtin.files import TOOLS, FilesKind
from agent_service.file_tree import FileProblem, FileTree
from agent_service.settings import ToolSettings
from agent_service.tool import ToolHost, ToolScope
from hypothesis import given
from hypothesis import strategies as st

SECRET = "the secret of somebody else"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "agent"


@pytest.fixture
def tree(root: Path) -> FileTree:
    made = FileTree(root, max_file_bytes=1000, max_total_bytes=2500)
    made.write("notes/todo.txt", "buy milk\ncall Ann\n")
    return made


def test_what_is_written_is_listed_read_and_moved(tree: FileTree) -> None:
    assert [e.path for e in tree.entries()] == ["notes/"]
    assert [(e.path, e.size_bytes) for e in tree.entries("notes")] == [("notes/todo.txt", 18)]
    assert tree.read("./notes//todo.txt") == "buy milk\ncall Ann\n"
    assert tree.move("notes/todo.txt", "done/2026/todo.txt") is True
    assert [e.path for e in tree.walk()] == ["done/2026/todo.txt"]


def test_a_move_that_was_made_is_not_made_again(tree: FileTree) -> None:
    tree.move("notes/todo.txt", "b.txt")
    assert tree.move("notes/todo.txt", "b.txt") is False
    tree.write("c.txt", "c")
    with pytest.raises(FileProblem, match="exists already"):
        tree.move("c.txt", "b.txt")


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret.txt",
        "notes/../../outside/secret.txt",
        "..",
        "/etc/passwd",
        "~/x",
        "a\\..\\b",
        "a\0b",
        "line\nbreak",
        "\u202egnp.exe",
        "x" * 256,
        "a/" * 17 + "b",
        "é" * 200,
        "x" * 2000,
        ".hearth-writing-1",
    ],
)
def test_no_path_gets_out(tree: FileTree, outside: Path, path: str) -> None:
    for act in (tree.read, tree.entries, lambda p: tree.write(p, "x"), lambda p: tree.move("notes/todo.txt", p)):
        with pytest.raises(FileProblem):
            act(path)
    assert (outside / "secret.txt").read_text() == SECRET


def test_no_link_gets_out(tree: FileTree, root: Path, outside: Path) -> None:
    (root / "file").symlink_to(outside / "secret.txt")
    (root / "folder").symlink_to(outside)
    os.link(outside / "secret.txt", root / "hard")
    for path in ("file", "folder/secret.txt", "hard"):
        with pytest.raises(FileProblem):
            tree.read(path)
    for path in ("file", "folder/new.txt", "hard"):
        with pytest.raises(FileProblem):
            tree.write(path, "overwritten")
    with pytest.raises(FileProblem):
        tree.entries("folder")
    with pytest.raises(FileProblem):
        tree.move("notes/todo.txt", "folder/todo.txt")
    assert [e.path for e in tree.walk()] == ["notes/todo.txt"]
    assert (outside / "secret.txt").read_text() == SECRET
    assert os.listdir(outside) == ["secret.txt"]


def test_special_files_are_no_files(tree: FileTree, root: Path) -> None:
    os.mkfifo(root / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(root / "s"))
    try:
        for path in ("pipe", "s"):
            with pytest.raises(FileProblem):
                tree.read(path)
            with pytest.raises(FileProblem):
                tree.write(path, "x")
    finally:
        listening.close()


def test_a_directory_that_is_swapped_for_a_link_meanwhile_leads_nowhere(
    tree: FileTree, root: Path, outside: Path
) -> None:
    (root / "swap").mkdir()
    (root / "swap" / "secret.txt").write_text("harmless")
    stopped = threading.Event()

    def swap() -> None:
        while not stopped.is_set():
            os.rename(root / "swap", root / "kept")
            os.symlink(outside, root / "swap")
            os.unlink(root / "swap")
            os.rename(root / "kept", root / "swap")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(2000):
            try:
                assert tree.read("swap/secret.txt") == "harmless"
            except FileProblem:
                continue
    finally:
        stopped.set()
        thread.join()


def test_sizes_are_bounded(tree: FileTree, root: Path) -> None:
    with pytest.raises(FileProblem, match="at most 1000"):
        tree.write("big.txt", "x" * 1001)
    (root / "big.txt").write_bytes(b"x" * 1001)
    with pytest.raises(FileProblem, match="at most 1000"):
        tree.read("big.txt")
    tree.write("one.txt", "x" * 1000)
    with pytest.raises(FileProblem, match="2500"):
        tree.write("two.txt", "x" * 500)
    # What is written over does not count.
    tree.write("one.txt", "y" * 900)
    assert tree.read("one.txt") == "y" * 900


def test_what_is_no_text_says_so(tree: FileTree, root: Path) -> None:
    (root / "image.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(FileProblem, match="no text"):
        tree.read("image.png")


@given(st.text(max_size=60))
def test_any_path_is_inside_or_refused(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    base = tmp_path_factory.mktemp("tree")
    tree = FileTree(base / "agent", max_file_bytes=100, max_total_bytes=1000)
    try:
        tree.write(path, "x")
    except FileProblem:
        return
    assert os.listdir(base) == ["agent"]
    assert [e.size_bytes for e in tree.walk()] == [1]


@pytest.mark.parametrize(
    ("config", "names"), [({}, list(TOOLS)), ({"tools": ["files_read", "files_list"]}, ["files_list", "files_read"])]
)
async def test_the_kind_has_the_tools_that_its_configuration_names(
    tmp_path: Path, config: dict[str, Any], names: list[str]
) -> None:
    anybody: Any = None
    agent: Any = SimpleNamespace(id="a")
    host = ToolHost(settings=ToolSettings(files_home=str(tmp_path)), storage=anybody, inference=anybody)
    scope = ToolScope(agent=agent, session_id=None, task_id=None, requests=None)
    async with FilesKind().open(config, scope, host) as tools:
        assert [tool.spec.name for tool in tools] == names
        result = await tools[0].call({}, call_id="c")
    assert (result.content, result.is_error) == ("(empty)", False)
    assert (tmp_path / "a").is_dir()
