"""A bundle is either exactly what was written, or refused by name."""

import dataclasses
import errno
import json
import zipfile
import zlib

import pytest

from laudc.engine import bundle as bundle_module
from laudc.engine.bundle import looks_like_bundle, open_bundle, write_bundle
from laudc.engine.manifest import parse_manifest
from laudc.errors import UserError

from .conftest import MEMBERS, make_manifest


def rewrite(path, members):
    """The bundle as another zip writer would have written it, with these (name, data) pairs."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            archive.writestr(name, data)


def replace_manifest(path, change):
    """A bundle in our own layout whose manifest was edited and whose checksums were made to fit."""
    raw = json.loads(make_manifest().to_json())
    change(raw)

    class Edited:
        def to_json(self):
            return json.dumps(raw).encode()

    write_bundle(path, Edited(), MEMBERS)


def test_round_trip(bundle_path, manifest):
    opened = open_bundle(bundle_path)
    assert opened.manifest == manifest
    assert opened.read("model.onnx") == MEMBERS["model.onnx"]
    assert opened.read("portable.onnx") == MEMBERS["portable.onnx"]
    assert "portable.onnx" in opened and looks_like_bundle(bundle_path)


def test_it_is_an_ordinary_stored_zip(bundle_path):
    with zipfile.ZipFile(bundle_path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", "model.onnx", "weights.bin", "portable.onnx"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("model.onnx") == MEMBERS["model.onnx"]


def test_the_same_engine_has_the_same_bytes(tmp_path, bundle_path, manifest):
    again = tmp_path / "again.laudc"
    write_bundle(again, manifest, dict(reversed(MEMBERS.items())))
    assert again.read_bytes() == bundle_path.read_bytes()


def test_member_data_is_aligned(bundle_path):
    opened = open_bundle(bundle_path)
    whole = bundle_path.read_bytes()
    for name, data in MEMBERS.items():
        start = opened.data_offset(name)
        assert start % 64 == 0 and whole[start : start + len(data)] == data


def test_the_portable_member_is_optional(tmp_path):
    members = {"model.onnx": b"x", "weights.bin": b"y"}
    write_bundle(tmp_path / "a.laudc", make_manifest(members), members)
    assert "portable.onnx" not in open_bundle(tmp_path / "a.laudc")


def test_truncated_anywhere(bundle_path):
    whole = bundle_path.read_bytes()
    for length in range(len(whole)):
        bundle_path.write_bytes(whole[:length])
        with pytest.raises(UserError) as caught:
            open_bundle(bundle_path)
        assert "laudc build-engine" in str(caught.value)


def test_every_changed_byte_is_found(bundle_path):
    whole = bytearray(bundle_path.read_bytes())
    for position in range(len(whole)):
        flip = 1 << position % 8
        whole[position] ^= flip
        bundle_path.write_bytes(whole)
        with pytest.raises(UserError):
            open_bundle(bundle_path)
        whole[position] ^= flip


@pytest.mark.parametrize("junk", [b"x", b"PK\x05\x06" + b"\0" * 18, b"\0" * 1000])
def test_something_appended(bundle_path, junk):
    bundle_path.write_bytes(bundle_path.read_bytes() + junk)
    with pytest.raises(UserError, match="not an intact engine"):
        open_bundle(bundle_path)


def test_something_prepended(bundle_path):
    bundle_path.write_bytes(b"#!/bin/sh\n" + bundle_path.read_bytes())
    with pytest.raises(UserError, match="not a laudc engine"):
        open_bundle(bundle_path)


@pytest.mark.parametrize(
    "extra", ["../evil.so", "/etc/passwd", "evil.so", "model.onnx/../x", "..\\x", "manifest.json\0", "é"]
)
def test_members_that_engines_do_not_have(tmp_path, extra):
    path = tmp_path / "a.laudc"
    rewrite(path, [("manifest.json", make_manifest().to_json()), ("model.onnx", b"m"), (extra, b"e")])
    with pytest.raises(UserError, match="which engines do not have|was changed|twice"):
        open_bundle(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.laudc"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_members(tmp_path):
    rewrite(tmp_path / "a.laudc", [("manifest.json", b"{}"), ("model.onnx", b"1"), ("model.onnx", b"2")])
    with pytest.raises(UserError, match="twice"):
        open_bundle(tmp_path / "a.laudc")


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "weights.bin"])
def test_missing_members(tmp_path, name):
    others = [other for other in ("manifest.json", "model.onnx", "weights.bin") if other != name]
    rewrite(tmp_path / "a.laudc", [(other, b"x") for other in others])
    with pytest.raises(UserError, match=f"{name} is missing"):
        open_bundle(tmp_path / "a.laudc")


def test_compressed_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.laudc", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", make_manifest().to_json())
        archive.writestr("model.onnx", b"\0" * 100_000)
    with pytest.raises(UserError, match="compressed"):
        open_bundle(tmp_path / "a.laudc")


def test_member_not_in_the_manifest(tmp_path):
    listed = {name: data for name, data in MEMBERS.items() if name != "portable.onnx"}
    write_bundle(tmp_path / "a.laudc", make_manifest(listed), MEMBERS)
    with pytest.raises(UserError, match="its manifest lists"):
        open_bundle(tmp_path / "a.laudc")


def test_another_model_with_fitting_checksums(tmp_path):
    forged = {**MEMBERS, "model.onnx": b"\0" * len(MEMBERS["model.onnx"])}
    write_bundle(tmp_path / "a.laudc", make_manifest(), forged)
    with pytest.raises(UserError, match=r"members\.model\.onnx\.sha256"):
        open_bundle(tmp_path / "a.laudc")


def test_another_size(tmp_path):
    write_bundle(tmp_path / "a.laudc", make_manifest(), {**MEMBERS, "model.onnx": b"\0"})
    with pytest.raises(UserError, match=r"members\.model\.onnx\.size'?: found 1, wanted 768"):
        open_bundle(tmp_path / "a.laudc")


def test_a_newer_format_is_named(tmp_path):
    replace_manifest(tmp_path / "a.laudc", lambda raw: raw.update(format_version=2, shiny="new"))
    with pytest.raises(UserError, match="'format_version': found 2, wanted 1"):
        open_bundle(tmp_path / "a.laudc")


@pytest.mark.parametrize(
    "field, change",
    [
        ("format", lambda raw: raw.update(format="other")),
        ("arch", lambda raw: raw.pop("arch")),
        ("arch", lambda raw: raw.update(arch=7)),
        ("surprise", lambda raw: raw.update(surprise=1)),
        ("source.onnx_sha256", lambda raw: raw["source"].update(onnx_sha256="zz")),
        ("source.checkpoint_sha256", lambda raw: raw["source"].update(checkpoint_sha256=5)),
        ("input.shape", lambda raw: raw["input"].update(shape=[1, 2])),
        ("input.shape[1]", lambda raw: raw["input"].update(shape=["N", 3.5, 8, 8])),
        ("input.dtype", lambda raw: raw["input"].update(dtype="float16")),
        ("outputs", lambda raw: raw.update(outputs={})),
        ("native_library.abi", lambda raw: raw["native_library"].update(abi=True)),
        ("cpu.features[0]", lambda raw: raw["cpu"].update(features=[1])),
        ("schedule.blocks", lambda raw: raw["schedule"].pop("blocks")),
        ("schedule.blocks[0].reason", lambda raw: raw["schedule"]["blocks"][0].pop("reason")),
        ("schedule.blocks[0].name", lambda raw: raw["schedule"].update(blocks=["x"])),
        ("members", lambda raw: raw["members"].pop("model.onnx")),
        ("members.run.sh", lambda raw: raw["members"].update({"run.sh": raw["members"]["model.onnx"]})),
        ("members.model.onnx.size", lambda raw: raw["members"]["model.onnx"].update(size=-1)),
        ("members.model.onnx.size", lambda raw: raw["members"]["model.onnx"].update(size="1")),
    ],
)
def test_a_wrong_manifest_names_the_field(tmp_path, field, change):
    replace_manifest(tmp_path / "a.laudc", change)
    with pytest.raises(UserError) as caught:
        open_bundle(tmp_path / "a.laudc")
    assert f"field '{field}'" in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'{"format": 1}',
    ],
)
def test_manifests_that_are_no_manifests(raw):
    with pytest.raises(ValueError):
        parse_manifest(raw)


def test_an_enormous_manifest_is_not_parsed(tmp_path, monkeypatch, bundle_path):
    monkeypatch.setattr(bundle_module, "MAX_MANIFEST_BYTES", 10)
    with pytest.raises(UserError, match="more than any engine's"):
        open_bundle(bundle_path)


def test_change_between_opening_and_reading(bundle_path):
    opened = open_bundle(bundle_path)
    whole = bytearray(bundle_path.read_bytes())
    whole[opened._entries["model.onnx"].data_offset] ^= 1
    bundle_path.write_bytes(whole)
    with pytest.raises(UserError, match="changed while"):
        opened.read("model.onnx")


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "none.laudc"):
        with pytest.raises(UserError, match="(?i)cannot read"):
            open_bundle(path)


def test_zip_checksum_that_does_not_fit_the_member(tmp_path, monkeypatch):
    real = zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda data, start=0: real(data, start) ^ (data in MEMBERS.values()))
    write_bundle(tmp_path / "a.laudc", make_manifest(), MEMBERS)
    monkeypatch.undo()
    with pytest.raises(UserError, match="checksum of model.onnx"):
        open_bundle(tmp_path / "a.laudc")


@pytest.mark.parametrize("number, said", [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota")])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, number, said):
    import io
    import os

    class FullDisk(io.FileIO):
        def write(self, data):
            if len(data) > 500:
                raise OSError(number, os.strerror(number))
            return super().write(data)

    monkeypatch.setattr(os, "fdopen", lambda descriptor, mode: FullDisk(descriptor, "wb"))
    old = tmp_path / "old.laudc"
    old.write_bytes(b"older engine")
    for name in ("new.laudc", "old.laudc"):
        with pytest.raises(UserError, match=said):
            write_bundle(tmp_path / name, make_manifest(), MEMBERS)
    assert [file.name for file in tmp_path.iterdir()] == ["old.laudc"]
    assert old.read_bytes() == b"older engine"


@pytest.mark.parametrize("where", ["missing/a.laudc", "file/a.laudc", "folder"])
def test_paths_that_cannot_be_written(tmp_path, where):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="(?i)cannot write"):
        write_bundle(tmp_path / where, make_manifest(), MEMBERS)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_bundle_beyond_zips_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_module, "_MAX_SIZE", 1000)
    with pytest.raises(UserError, match="4 GiB"):
        write_bundle(tmp_path / "a.laudc", make_manifest(), MEMBERS)
    assert not list(tmp_path.iterdir())


def test_manifest_values_survive_json(manifest):
    changed = dataclasses.replace(
        manifest, config={"nested": [1, {"a": None}]}, preprocess={"mean": [0.5, 1e-9, 3]}
    )
    assert parse_manifest(changed.to_json()) == changed
