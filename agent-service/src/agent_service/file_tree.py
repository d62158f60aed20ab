"""A directory that nothing gets out of: no link, no `..`, no special file, however fast somebody swaps them.

Each part of a path is opened by itself, below the part before it and never through a link (openat(2), O_NOFOLLOW), so
there is no moment between looking and opening.
"""

import contextlib
import fcntl
import os
import stat
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MAX_PATH_CHARACTERS = 1000
MAX_NAME_BYTES = 255
MAX_DEPTH = 16
# What a listing, a search or the count of the quota looks at.
MAX_ENTRIES = 10_000
TEMPORARY = ".hearth-writing-"
# A file of that name which is older than this was left by a process that died.
TEMPORARY_SECONDS = 3600

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK opening a pipe would wait for its other end.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FileProblem(Exception):
    """A path or a file that cannot be used, in words for a model."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file, or a directory, whose path ends with a slash; its size in bytes."""

    path: str
    size_bytes: int


class FileTree:
    """The files below `root`, which is made where it is missing."""

    def __init__(self, root: Path, *, max_file_bytes: int, max_total_bytes: int) -> None:
        self._root = root
        self._max_file_bytes = max_file_bytes
        self._max_total_bytes = max_total_bytes

    def entries(self, path: str = "") -> list[Entry]:
        """What is directly in a directory, in the order of names. Raises FileProblem."""
        with self._directory(_parts(path)) as (descriptor, shown):
            found = []
            for name in sorted(os.listdir(descriptor))[:MAX_ENTRIES]:
                if not _is_name(name) or (status := _status(name, descriptor)) is None:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    found.append(Entry(path=f"{shown}{name}/", size_bytes=0))
                elif _is_plain(status):
                    found.append(Entry(path=f"{shown}{name}", size_bytes=status.st_size))
            return found

    def walk(self, path: str = "") -> Iterator[Entry]:
        """All files below a directory, MAX_ENTRIES at most. Raises FileProblem."""
        waiting = [path]
        count = 0
        while waiting:
            for entry in self.entries(waiting.pop()):
                count += 1
                if count > MAX_ENTRIES:
                    return
                if entry.path.endswith("/"):
                    if entry.path.count("/") < MAX_DEPTH:
                        waiting.append(entry.path)
                else:
                    yield entry

    def _everything(self) -> Iterator[Entry]:
        """What the quota counts: all files and directories, also those that no path leads to."""
        waiting: list[list[str]] = [[]]
        count = 0
        while waiting:
            parts = waiting.pop()
            with self._directory(parts) as (descriptor, shown):
                for name in os.listdir(descriptor):
                    if (status := _status(name, descriptor)) is None:
                        continue
                    count += 1
                    is_directory = stat.S_ISDIR(status.st_mode)
                    yield Entry(path=f"{shown}{name}", size_bytes=0 if is_directory else status.st_size)
                    if count > MAX_ENTRIES:
                        return
                    if is_directory and len(parts) < MAX_DEPTH:
                        waiting.append([*parts, name])

    def read(self, path: str) -> str:
        """The text of a file. Raises FileProblem, also where it is too large or no text."""
        parts = _parts(path)
        with self._file(parts) as descriptor:
            size = os.fstat(descriptor).st_size
            if size > self._max_file_bytes:
                raise FileProblem(f"{path} has {size} bytes; at most {self._max_file_bytes} can be read.")
            with os.fdopen(os.dup(descriptor), "rb") as file:
                content = file.read(self._max_file_bytes + 1)
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise FileProblem(f"{path} is no text file.") from None

    def write(self, path: str, text: str) -> int:
        """Writes a whole file, with its directories; its size in bytes. It is there whole or as before.

        Raises FileProblem, also where the file, or all files together, would be too large.
        """
        parts = _parts(path, of_file=True)
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise FileProblem("The text has half a character in it, which no file can have.") from error
        if len(content) > self._max_file_bytes:
            raise FileProblem(f"{path} would have {len(content)} bytes; at most {self._max_file_bytes} are allowed.")
        with self._alone():
            used = self._used(parts)
            if used + len(content) > self._max_total_bytes:
                raise FileProblem(
                    f"All files together may have {self._max_total_bytes} bytes, and {used} are used. Write less, or "
                    "shorten another file."
                )
            self._replace(path, parts, content)
        return len(content)

    def _used(self, parts: list[str]) -> int:
        """The bytes of all files but this one. Raises FileProblem where another could be one too many."""
        used = count = 0
        for entry in self._everything():
            used += entry.size_bytes if entry.path != "/".join(parts) else 0
            count += 1
        if count + len(parts) > MAX_ENTRIES:
            raise FileProblem(f"There are {count} files and directories, and {MAX_ENTRIES} may be. Use those.")
        return used

    def _replace(self, path: str, parts: list[str], content: bytes) -> None:
        with self._directory(parts[:-1], make=True) as (directory, _):
            status = _status(parts[-1], directory)
            if status is not None and not _is_plain(status):
                raise FileProblem(f"{path} is there and is no plain file.")
            _remove_what_was_left(directory)
            temporary = f"{TEMPORARY}{os.getpid()}-{os.urandom(8).hex()}"
            try:
                descriptor = os.open(temporary, _CREATE, 0o600, dir_fd=directory)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, parts[-1], src_dir_fd=directory, dst_dir_fd=directory)
            except OSError as error:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=directory)
                raise _problem(path, error) from error

    def move(self, path: str, to: str) -> bool:
        """Moves a file, with the directories that it then needs; whether it was still to be moved.

        Again after it was done is harmless. Raises FileProblem, also where something else is there already.
        """
        source, target = _parts(path, of_file=True), _parts(to, of_file=True)
        with self._alone():
            return self._move(path, to, source, target)

    def _move(self, path: str, to: str, source: list[str], target: list[str]) -> bool:
        self._used(target)
        with self._directory(target[:-1], make=True) as (target_directory, _):
            is_there = _status(target[-1], target_directory) is not None
            try:
                with self._file(source):
                    pass
            except FileProblem:
                if is_there:
                    return False
                raise
            if is_there and source != target:
                raise FileProblem(f"{to} exists already. Choose another name.")
            with self._directory(source[:-1]) as (source_directory, _):
                try:
                    os.rename(source[-1], target[-1], src_dir_fd=source_directory, dst_dir_fd=target_directory)
                except OSError as error:
                    raise _problem(path, error) from error
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps every other process from writing here meanwhile: what was counted and looked for stays so."""
        with self._directory([]) as (descriptor, _):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _directory(self, parts: list[str], *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The directory's descriptor, and its path with a slash at the end, empty for the root."""
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _problem("The agent's directory", error) from error
        try:
            for depth, part in enumerate(parts):
                if make:
                    try:
                        os.mkdir(part, 0o700, dir_fd=descriptor)
                    except FileExistsError:
                        pass
                    except OSError as error:
                        raise _problem("/".join(parts[: depth + 1]), error) from error
                try:
                    below = os.open(part, _DIRECTORY, dir_fd=descriptor)
                except OSError as error:
                    raise _problem("/".join(parts[: depth + 1]), error) from error
                os.close(descriptor)
                descriptor = below
            yield descriptor, "".join(f"{part}/" for part in parts)
        finally:
            os.close(descriptor)

    @contextmanager
    def _file(self, parts: list[str]) -> Iterator[int]:
        if not parts:
            raise FileProblem("Name a file, such as notes.txt.")
        with self._directory(parts[:-1]) as (directory, _):
            try:
                descriptor = os.open(parts[-1], _READ, dir_fd=directory)
            except OSError as error:
                raise _problem("/".join(parts), error) from error
            try:
                if not _is_plain(os.fstat(descriptor)):
                    raise FileProblem(f"{'/'.join(parts)} is no plain file.")
                yield descriptor
            finally:
                os.close(descriptor)


def _parts(path: str, *, of_file: bool = False) -> list[str]:
    """The names in a path. Raises FileProblem where it is none that could be inside."""
    if len(path) > MAX_PATH_CHARACTERS:
        raise FileProblem(f"The path is longer than {MAX_PATH_CHARACTERS} characters.")
    if path.startswith(("/", "~")) or "\\" in path or _has_controls(path):
        raise FileProblem(f"{path!r} is no path inside the agent's directory. Write it like notes/todo.txt.")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise FileProblem("A path must not contain `..`: everything is inside the agent's directory.")
    if len(parts) > MAX_DEPTH or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise FileProblem(f"The path is too deep, or a name too long: {MAX_DEPTH} names of {MAX_NAME_BYTES} bytes.")
    if any(part.startswith(TEMPORARY) for part in parts):
        raise FileProblem(f"Names that begin with {TEMPORARY} are Hearth's own.")
    if of_file and (not parts or path.endswith("/")):
        raise FileProblem("Name a file, such as notes.txt.")
    return parts


def _has_controls(text: str) -> bool:
    """Also halves of characters, which stand for bytes that are no UTF-8, and what turns the direction of writing."""
    return any(unicodedata.category(character)[0] == "C" for character in text)


def _is_name(name: str) -> bool:
    """Whether a path can have this name in it."""
    return not (name.startswith(TEMPORARY) or "\\" in name or _has_controls(name))


def _remove_what_was_left(directory: int) -> None:
    for name in os.listdir(directory):
        if not name.startswith(TEMPORARY) or (status := _status(name, directory)) is None:
            continue
        if time.time() - status.st_mtime > TEMPORARY_SECONDS:
            os.unlink(name, dir_fd=directory)


def _status(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_plain(status: os.stat_result) -> bool:
    """A second name of a file may be one of somebody else's."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _problem(path: str, error: OSError) -> FileProblem:
    match error:
        case FileNotFoundError():
            return FileProblem(f"There is no {path}.")
        case NotADirectoryError() | IsADirectoryError():
            return FileProblem(f"{path} is not what the path says: a file in the place of a directory, or a link.")
    return FileProblem(f"{path} cannot be used: {os.strerror(error.errno or 0)}.")
