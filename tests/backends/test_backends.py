"""Finding the native library, and what is said when it cannot be used."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from laudc import backends
from laudc.backends import native
from laudc.errors import UserError


@pytest.fixture(autouse=True)
def _forget_libraries():
    native._abi_of.cache_clear()
    yield
    native._abi_of.cache_clear()


@pytest.fixture
def without_abi(tmp_path: Path) -> Path:
    """A shared object that is not ours."""
    source, library = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("int laudc_is_elsewhere(void) { return 1; }\n")
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    return library


def test_backends_by_name() -> None:
    assert [backends.get(name).name for name in backends.NAMES] == list(backends.NAMES)
    with pytest.raises(UserError, match="nknown backend 'tvm'") as caught:
        backends.get("tvm")
    assert "onnxruntime" in str(caught.value)


def test_missing_library(monkeypatch, tmp_path) -> None:
    path = tmp_path / "nowhere.so"
    monkeypatch.setenv(native.OVERRIDE, str(path))
    backend = backends.get("onnxruntime")
    for use in (backend.native_library_path, backend.native_abi, lambda: backend.load(b"")):
        with pytest.raises(UserError, match="is missing") as caught:
            use()
        assert str(path) in str(caught.value)
        assert "make native" in str(caught.value)
    found = backend.is_available()
    assert not found.ok
    assert str(path) in found.reason


def test_a_folder_is_not_a_library(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(native.OVERRIDE, str(tmp_path))
    with pytest.raises(UserError, match="is missing"):
        native.library_path()


def test_library_that_is_text(monkeypatch, tmp_path) -> None:
    path = tmp_path / "text.so"
    path.write_text("not a library\n")
    monkeypatch.setenv(native.OVERRIDE, str(path))
    with pytest.raises(UserError, match="not a usable laudc library"):
        native.library_abi()
    assert not backends.get("onnxruntime").is_available().ok


def test_library_of_somebody_else(monkeypatch, without_abi) -> None:
    monkeypatch.setenv(native.OVERRIDE, str(without_abi))
    with pytest.raises(UserError, match="not a usable laudc library") as caught:
        native.library_abi()
    assert "laudc_abi" in str(caught.value)
    checks = backends.get("onnxruntime").check_env()
    assert [(what, ok) for what, ok, _ in checks] == [("onnxruntime", True), ("native library", False)]


def test_override_comes_first(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv(native.OVERRIDE, raising=False)
    assert all(path.name == native.LIBRARY for path in native.searched_paths())
    monkeypatch.setenv(native.OVERRIDE, str(tmp_path / "mine.so"))
    assert native.searched_paths() == [tmp_path / "mine.so"]


def test_environment_of_a_working_backend(native: None) -> None:
    backend = backends.get("onnxruntime")
    checks = backend.check_env()
    assert [what for what, _, _ in checks] == ["onnxruntime", "native library", "operators"]
    assert all(ok for _, ok, _ in checks)
    assert str(backend.native_library_path()) in checks[1][2]
    assert backend.is_available() == backends.Availability(True)
    assert backend.version() == checks[0][2]


@pytest.mark.parametrize(("version", "ok"), [("1.19.2", False), ("0.9", False), ("1.20.0", True), ("2.0.1+x", True)])
def test_old_runtimes_are_named(monkeypatch, version: str, ok: bool) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "__version__", version)
    what, fine, detail = backends.get("onnxruntime").check_env()[0]
    assert (what, fine) == ("onnxruntime", ok)
    assert version in detail


def test_missing_runtime(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    what, fine, detail = backends.get("onnxruntime").check_env()[0]
    assert (what, fine) == ("onnxruntime", False)
    assert "pip install onnxruntime" in detail
