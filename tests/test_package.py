"""Errors, files and the lazy public names of the package."""

from __future__ import annotations

import errno
import os
import pickle
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import laudc
from laudc.errors import CheckFailed, InternalError, LaudcError, UserError
from laudc.files import atomic_write, check_file, check_target, sha256_bytes, sha256_file


def test_errors_are_one_paragraph() -> None:
    error = UserError("cannot read  model.onnx", "it is\nempty.", "export it again")
    assert str(error) == "Cannot read model.onnx. It is empty. Export it again."
    assert (
        str(UserError("layer1.0 is odd", "why?", "--opset 20 helps"))
        == "layer1.0 is odd. Why? --opset 20 helps."
    )
    assert (error.what, error.exit_code) == ("cannot read  model.onnx", 2)
    assert str(CheckFailed("too slow")) == "Too slow."
    assert (CheckFailed.exit_code, InternalError.exit_code, LaudcError.exit_code) == (3, 1, 1)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_import_is_light_and_fast() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import laudc; spent = time.perf_counter() - start;"
        "print(spent, *[n for n in ('numpy', 'onnx', 'onnxruntime', 'torch', 'yaml') if n in sys.modules])"
    )
    best = 9.0
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        spent, *heavy = done.stdout.split()
        assert not heavy
        best = min(best, float(spent))
    assert best < 0.15


def test_public_names_exist() -> None:
    assert set(laudc.__all__) <= set(dir(laudc))
    assert callable(laudc.export)
    assert callable(laudc.verify)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = laudc.nonsense  # type: ignore[attr-defined]


def test_write_appears_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]
    assert sha256_file(path) == sha256_bytes(b"new")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_after_an_exception(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_permissions(tmp_path: Path) -> None:
    kept, new = tmp_path / "kept", tmp_path / "new"
    kept.touch()
    kept.chmod(0o600)
    previous = os.umask(0o027)
    try:
        for path in (kept, new):
            with atomic_write(path) as file:
                file.write(b"x")
    finally:
        os.umask(previous)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (kept, new)] == [0o600, 0o640]


def test_links_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    with atomic_write(os.devnull) as file:
        file.write(b"gone")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_what_is_written_directly_needs_no_writable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writable = [os.devnull]
    monkeypatch.setattr("laudc.files.os.access", lambda path, mode: path in writable)
    check_file(os.devnull)
    with pytest.raises(UserError, match="not writable"):
        check_file(tmp_path / "a")
    writable.clear()
    with pytest.raises(UserError, match="not writable"):
        check_file(os.devnull)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing/a", "folder does not exist"),
        ("file/a", "not a folder"),
        (".", "It is a folder"),
        ("x" * 300, "too long"),
    ],
)
def test_impossible_paths(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=words), atomic_write(tmp_path / path) as file:
        file.write(b"x")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")])
def test_errors_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("laudc.files.os.fsync", fail)
    with pytest.raises(UserError, match=words), atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    assert os.listdir(tmp_path) == []


def test_errors_about_other_files_are_not_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a"):
        open(tmp_path / "other", "rb").close()
    assert os.listdir(tmp_path) == []


def test_hash_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        sha256_file(tmp_path / "a")


def test_hashing_does_not_read_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(3 << 20)
    start = time.perf_counter()
    assert sha256_file(path) == sha256_bytes(bytes(3 << 20))
    assert time.perf_counter() - start < 5


def test_a_target_is_checked_and_not_made(tmp_path):
    (tmp_path / "file").touch()
    check_target(tmp_path / "new" / "folder" / "a.yaml")
    check_target(tmp_path / "file")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file"]
    for path, why in ((tmp_path, "is a folder"), (tmp_path / "file" / "a" / "b.yaml", "not a folder")):
        with pytest.raises(UserError, match=why):
            check_target(path)
