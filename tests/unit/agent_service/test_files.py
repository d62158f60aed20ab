"""Files in a directory that nothing gets out of."""

import fcntl
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from agent_service.builtin.files import TOOLS, FilesKind
from agent_service.file_tree import MAX_ENTRIES, FileProblem, FileTree
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


def test_the_number_of_files_is_bounded(root: Path) -> None:
    tree = FileTree(root, max_file_bytes=10, max_total_bytes=10)
    (root / "d").mkdir(parents=True)
    for n in range(MAX_ENTRIES - 2):
        (root / "d" / str(n)).touch()
    tree.write("last.txt", "x")
    for act in (lambda: tree.write("more.txt", ""), lambda: tree.move("last.txt", "a/b.txt")):
        with pytest.raises(FileProblem, match="may be"):
            act()


@pytest.mark.parametrize("act", ["write", "move"])
def test_nobody_writes_while_another_process_counts(tree: FileTree, root: Path, act: str) -> None:
    descriptor = os.open(root, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(getattr(tree, act), "notes/todo.txt", "b.txt")
        with pytest.raises(TimeoutError):
            made.result(timeout=0.2)
        os.close(descriptor)
        made.result(timeout=10)


def test_what_a_process_left_that_died_is_removed(tree: FileTree, root: Path) -> None:
    for name, age in (("old", 7200), ("new", 0)):
        left = root / f".hearth-writing-{name}"
        left.write_text("x")
        os.utime(left, (time.time() - age, time.time() - age))
    tree.write("a.txt", "a")
    assert sorted(os.listdir(root)) == [".hearth-writing-new", "a.txt", "notes"]


def test_names_that_no_path_can_have_are_not_listed(tree: FileTree, root: Path) -> None:
    for name in (b"latin-\xe9", b"line\nbreak", "\u202egnp".encode()):
        (root / os.fsdecode(name)).write_text("x")
    assert [e.path for e in tree.entries()] == ["notes/"]
    with pytest.raises(FileProblem, match="half a character"):
        tree.write("a.txt", "\ud800")


async def test_a_long_file_is_read_from_where_it_was_cut(root: Path) -> None:
    (root / "agent").mkdir(parents=True)
    (root / "agent" / "log.txt").write_text("one\ntwo\nthree")
    anybody: Any = None
    agent: Any = SimpleNamespace(id="agent")
    host = ToolHost(settings=ToolSettings(files_home=str(root)), storage=anybody, inference=anybody)
    scope = ToolScope(agent=agent, session_id=None, task_id=None, requests=None)
    async with FilesKind().open({}, scope, host) as tools:
        named = {tool.spec.name: tool for tool in tools}
        read = await named["files_read"].call({"path": "log.txt", "first_line": 2}, call_id="c")
        assert (read.content, read.is_error) == ("two\nthree", False)
        assert (await named["files_read"].call({"path": "log.txt", "first_line": 9}, call_id="c")).is_error
        moved = await named["files_move"].call({"path": "nothing.txt", "to": "log.txt"}, call_id="c")
        assert "There is no nothing.txt" in moved.content


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
