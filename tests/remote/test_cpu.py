"""build-engine and profile on another machine: through a real ssh server, by the laudc that is installed there."""

from __future__ import annotations

import json
import os

import pytest

from laudc.cli.app import main
from laudc.engine.bundle import open_bundle
from laudc.engine.engine import load_engine
from laudc.errors import UserError
from laudc.profile.records import ProfileResult
from laudc.remote import build_on_target, parse_target, profile_on_target


def test_an_engine_made_there_is_the_engine_made_here(server, tiny_onnx, tiny_engine, tmp_path):
    output = tmp_path / "there.laudc"
    steps = []
    result = build_on_target(
        parse_target(server.url), tiny_onnx, output, options=["--device", "cpu"], progress=steps.append
    )
    assert output.read_bytes() == tiny_engine.read_bytes()
    assert result.manifest == open_bundle(tiny_engine).manifest and result.size == output.stat().st_size
    assert any("sending" in step for step in steps) and any("fetching" in step for step in steps)
    assert os.listdir(server.cache / "jobs") == []
    with load_engine(output) as engine:
        assert engine.block_names


def test_the_command_line(server, tiny_onnx, photos, tmp_path, capsys):
    output, report = tmp_path / "there.laudc", tmp_path / "profile.json"
    words = ["build-engine", str(tiny_onnx), "--target", server.url, "--schedule", "sparse", "-o", str(output)]
    assert main([*words, "--json", str(tmp_path / "build.json")]) == 0
    assert json.loads((tmp_path / "build.json").read_text())["kind"] == "build-engine"
    words = ["profile", str(output), "--target", server.url, "--images", str(photos), "--runs", "3", "--threads", "1"]
    words += ["--save-activation", str(tmp_path / "stats.json")]
    assert main([*words, "--json", str(report), "--html", str(tmp_path / "r.html")]) == 0
    assert json.loads((tmp_path / "stats.json").read_text())
    text = capsys.readouterr().out
    assert "End to end" in text and "layer1.0" in text
    data = json.loads(report.read_text())
    assert data["images"]["names"] == ["a.png", "b.png", "c.png"]
    assert json.loads(json.dumps(ProfileResult.from_dict(data).to_dict())) == data
    assert os.listdir(server.cache / "jobs") == []


def test_what_the_other_side_refuses_is_told_as_its_own(server, tiny_onnx, tmp_path):
    output = tmp_path / "out.laudc"
    with pytest.raises(UserError, match=r"n .*127\.0\.0\.1.*: .*no-such-device") as caught:
        build_on_target(parse_target(server.url), tiny_onnx, output, options=["--device", "no-such-device"])
    assert "laudc devices" in str(caught.value)
    assert not output.exists() and os.listdir(server.cache / "jobs") == []


def test_without_laudc_there(server, tiny_onnx, tmp_path):
    command = server.home / "bin/laudc"
    hidden = command.rename(command.with_name("hidden"))
    (server.home / "bin/python3").write_text("#!/bin/sh\nexit 1\n")
    (server.home / "bin/python3").chmod(0o755)
    try:
        with pytest.raises(UserError, match="audc is not installed on") as caught:
            build_on_target(parse_target(server.url), tiny_onnx, tmp_path / "o.laudc")
        assert "pip install laudc" in str(caught.value)
        (server.home / "bin/laudc").write_text("#!/bin/sh\necho laudc 0.0.1\n")
        command.chmod(0o755)
        with pytest.raises(UserError, match=r"here it is 0\.0\.1"):
            build_on_target(parse_target(server.url), tiny_onnx, tmp_path / "o.laudc")
    finally:
        hidden.rename(command)
        (server.home / "bin/python3").unlink()


def test_a_result_that_was_made_but_not_fetched_is_used(server, tiny_onnx, tmp_path):
    """The first command cannot write its output; the second finds the finished job instead of building again."""
    with pytest.raises(UserError, match="annot write"):
        build_on_target(parse_target(server.url), tiny_onnx, tmp_path / "no" / "folder.laudc")
    (job,) = (server.cache / "jobs").iterdir()
    made = (job / "out.laudc").stat().st_mtime_ns
    script = (job / "script").read_text()
    (job / "script").write_text("exit 1")  # would fail if it ran again
    build_on_target(parse_target(server.url), tiny_onnx, tmp_path / "out.laudc")
    assert made and "build-engine" in script
    assert open_bundle(tmp_path / "out.laudc").manifest.compiled


def test_what_is_no_engine_does_not_replace_an_older_one(server, tiny_onnx, tmp_path):
    command, output = server.home / "bin/laudc", tmp_path / "out.laudc"
    output.write_bytes(b"older")
    hidden = command.rename(command.with_name("hidden"))
    command.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec "{hidden}" "$@"\necho no engine > out.laudc\n')
    command.chmod(0o755)
    try:
        with pytest.raises(UserError, match="no intact engine"):
            build_on_target(parse_target(server.url), tiny_onnx, output)
    finally:
        hidden.rename(command)
    assert output.read_bytes() == b"older" and list(tmp_path.iterdir()) == [output]
    build_on_target(parse_target(server.url), tiny_onnx, output)
    assert open_bundle(output).manifest.compiled


def test_options_that_make_no_sense_there(server, uncompiled_nano, tmp_path):
    with pytest.raises(UserError, match="not compiled yet"):
        profile_on_target(parse_target(server.url), uncompiled_nano)


@pytest.fixture
def uncompiled_nano(tmp_path):
    """An engine that is still to be finished."""
    from laudc.engine.bundle import write_bundle

    from ..engine.conftest import MEMBERS, UNCOMPILED, make_manifest

    path = tmp_path / "nano.laudc"
    write_bundle(path, make_manifest(**UNCOMPILED), MEMBERS)
    return path
