"""Writing files so that a reader never sees half of one, and hashing them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

from laudc.errors import UserError

_CHUNK_BYTES = 1 << 20
# Leaves room for the random part of a temporary name below the usual limit of 255 bytes for one name.
_MAX_STEM = 100

_WRITE_REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space or choose another folder"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space or choose another folder"),
    errno.EACCES: ("the folder or the file is not writable", "Choose another path or change the permissions"),
    errno.EPERM: ("the folder or the file is not writable", "Choose another path or change the permissions"),
    errno.EROFS: ("the file system is read-only", "Choose another path"),
    errno.ENOENT: ("its folder does not exist", "Create the folder first or choose another path"),
    errno.ENOTDIR: ("a part of its path is a file, not a folder", "Choose another path"),
    errno.EISDIR: ("it is a folder", "Add a file name to the path"),
    errno.ENAMETOOLONG: ("the file name is too long", "Choose a shorter name"),
    errno.EFBIG: (
        "the file would be larger than allowed here",
        "Raise the file size limit or choose another folder",
    ),
}


def _write_error(path: str, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    why, fix = _WRITE_REASONS.get(error.errno or 0, (reason, "Choose another path or repair the cause"))
    return UserError(f"cannot write {path}", why, fix)


def _remove_quietly(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _open_new(path: str, mode: int) -> BinaryIO:
    """Open a file that must not exist yet; unlike `tempfile`, with the permissions the user's umask gives."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0), mode)
    return os.fdopen(descriptor, "wb")


@contextlib.contextmanager
def _write_and_rename(target: str, temporary: str, mode: int) -> Iterator[BinaryIO]:
    file = _open_new(temporary, mode)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        _remove_quietly(temporary)
        raise


@contextlib.contextmanager
def _write_directly(target: str) -> Iterator[BinaryIO]:
    with open(target, "wb") as file:
        yield file


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a binary file to write to; it gets its name `path` only when the block ends without an error.

    The data goes to a temporary file in the same folder, is flushed to the disk and renamed. On any exception
    (also KeyboardInterrupt) an older file of that name stays as it was and nothing else is left behind. A
    link is followed; a device such as /dev/null is written directly, since a rename would replace it.

    Raises:
        UserError: the file cannot be written (no such folder, no permission, disk full, ...). An OSError
            raised in the block about another file is passed on unchanged.
    """
    shown = os.fspath(path)
    target = os.path.realpath(shown)
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name[:_MAX_STEM]}.{secrets.token_hex(6)}.tmp")
    try:
        mode = _existing_mode(target)
        if mode is None or stat.S_ISREG(mode):
            manager = _write_and_rename(target, temporary, 0o666 if mode is None else stat.S_IMODE(mode))
        else:
            manager = _write_directly(target)
        with manager as file:
            yield file
    except OSError as error:
        if error.filename not in (None, target, temporary):
            raise
        raise _write_error(shown, error) from error


def _existing_mode(path: str) -> int | None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return mode


def check_target(path: str | os.PathLike[str]) -> None:
    """Checks that a file can be written once the folders that its path lacks are made, and makes nothing.

    For what takes so long that it should not fail at its end; of a device, the folder does not matter. Raises UserError
    as `atomic_write` does.
    """
    shown = os.fspath(path)
    target = os.path.realpath(shown)
    try:
        mode = _existing_mode(target)
        written = _nearest_folder(target) if mode is None or stat.S_ISREG(mode) else target
        if not os.access(written, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _write_error(shown, error) from error


def _nearest_folder(target: str) -> str:
    """The folder of a path, or the innermost one around it that is there. Raises OSError where a file is in the way."""
    folder = os.path.dirname(target)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return folder


def check_file(path: str | os.PathLike[str]) -> None:
    """Checks that `atomic_write` can write a file as its folders are now, and makes nothing.

    For results of what takes long. Raises UserError as `atomic_write` does.
    """
    check_target(path)
    shown = os.fspath(path)
    if not os.path.isdir(os.path.dirname(os.path.realpath(shown))):
        raise _write_error(shown, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))


def check_apart(source: object, output: str | os.PathLike[str]) -> None:
    """Raises UserError where `output` is the very file that it is made from, which writing would destroy."""
    if not isinstance(source, (str, os.PathLike)):
        return
    with contextlib.suppress(OSError):  # what is missing is told by whoever reads or writes it
        if os.path.samefile(source, output):
            raise UserError(
                f"cannot write {os.fspath(output)}",
                "it is the file that the result is made from, and would be lost",
                "choose another path",
            )


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content as 64 lower-case hexadecimal digits.

    Raises:
        UserError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise UserError(
            f"cannot read {os.fspath(path)}",
            error.strerror or str(error),
            "Check the path and its permissions",
        ) from error
    return digest.hexdigest()
