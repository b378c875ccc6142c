"""The command line: exit codes, texts, JSON."""

import json
import subprocess
import sys

import click
import pytest

import laudc
from laudc.cli import app, main
from laudc.errors import CheckFailed, UserError

VERBS = [
    "export",
    "build-engine",
    "profile",
    "predict",
    "calibrate",
    "search",
    "verify",
    "run",
    "inspect",
    "devices",
    "doctor",
]


@pytest.fixture
def failing(monkeypatch):
    """Makes `laudc devices` raise the given error."""

    def install(error):
        def raise_it():
            raise error

        monkeypatch.setattr("laudc.devices.available_profiles", raise_it)

    return install


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example:" in text and f"laudc {verb}" in text
    assert "--json" in text and "--verbose" in text and "--quiet" in text


def test_help_lists_all_verbs_and_exit_codes(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS) and "3 checked and" in text


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"laudc {laudc.__version__}\n"


def test_python_dash_m():
    done = subprocess.run(
        [sys.executable, "-m", "laudc", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"laudc {laudc.__version__}\n")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from laudc.cli import main; main(['--help']);"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'PIL'} & set(sys.modules);"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["exprot"], "Did you mean export"),
        (["zzz"], "no command 'zzz'"),
        (["export"], "Missing argument"),
        (["export", "x.pth"], "'-o'"),
        (["export", "x.pth", "-o", "y", "--input-size", "big"], "neither a side in pixels"),
        (["profile", "x", "--runs", "many"], "not a valid integer"),
        (["devices", "--bogus"], "No such option"),
    ],
)
def test_wrong_usage_is_2(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_user_errors_are_2_and_one_paragraph(failing, capsys):
    failing(UserError("it broke", "because", "Mend it"))
    assert main(["devices"]) == 2
    assert capsys.readouterr().err == "laudc: It broke. Because. Mend it.\n"


def test_failed_checks_are_3(failing, capsys):
    failing(CheckFailed("too slow", "it is", "wait"))
    assert main(["devices"]) == 3


def test_unknown_errors_are_1_without_traceback(failing, capsys):
    failing(ZeroDivisionError("division by zero"))
    assert main(["devices"]) == 1
    text = capsys.readouterr().err
    assert len(text.splitlines()) == 1 and "ZeroDivisionError: division by zero" in text and "-vv" in text


def test_tracebacks_only_with_vv(failing, capsys):
    failing(ZeroDivisionError("division by zero"))
    assert main(["devices", "-vv"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interruption_is_130(failing, error):
    failing(error)
    assert main(["devices"]) == app.EXIT_INTERRUPTED


def test_errors_are_json_too(failing, capsys):
    failing(UserError("it broke", "because", "Mend it"))
    assert main(["devices", "--json", "-"]) == 2
    data = json.loads(capsys.readouterr().out)
    assert data["kind"] == "error" and data["error"]["exit_code"] == 2 and data["error"]["why"] == "because"


def test_json_to_standard_output_is_pure(capsys):
    assert main(["devices", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["schema_version"] == 1
    assert "This machine:" in captured.err


def test_quiet_says_nothing(capsys, tmp_path):
    assert main(["devices", "-q", "--json", str(tmp_path / "a.json")]) == 0
    assert capsys.readouterr() == ("", "")
    assert json.loads((tmp_path / "a.json").read_text())["kind"] == "devices"


def test_options_of_a_group_reach_its_subcommand(capsys):
    assert main(["devices", "--json", "-", "show", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["device"]["id"] == "cpu"


def test_unknown_devices_get_the_closest_names(capsys):
    assert main(["devices", "show", "cpuu"]) == 2
    assert "cpu" in capsys.readouterr().err


def test_json_that_cannot_be_written_is_2(capsys, tmp_path):
    assert main(["devices", "--json", str(tmp_path / "none" / "a.json")]) == 2
    assert "none" in capsys.readouterr().err


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m laudc --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == ""


def test_the_whole_way(tiny_checkpoint, tmp_path, photos, capsys, native):
    model, engine = str(tmp_path / "m.onnx"), str(tmp_path / "m.laudc")
    page, result = tmp_path / "r.html", tmp_path / "r.json"
    assert main(["export", str(tiny_checkpoint), "-o", model]) == 0
    assert main(["build-engine", model, "--device", "cpu", "-o", engine]) == 0
    assert main(["verify", engine, "--reference", str(tiny_checkpoint), "--threads", "1"]) == 0
    assert "PASSED" in capsys.readouterr().out
    profile = ["profile", engine, "--images", str(photos), "--runs", "3", "--threads", "1", "--against-dense"]
    assert main([*profile, "--html", str(page), "--json", str(result)]) == 0
    text = capsys.readouterr().out
    assert "FLOP-ideal" in text and f"Report: {page}" in text
    assert json.loads(result.read_text())["dense"]["speedup"] > 0 and "</html>" in page.read_text()


def test_a_speedup_that_is_not_reached_is_3(tiny_engine, capsys):
    assert main(["profile", str(tiny_engine), "--runs", "2", "--threads", "1", "--min-speedup", "1000"]) == 3
    assert "--min-speedup asks for 1000×" in capsys.readouterr().err


def test_run_shows_the_likeliest_classes(tiny_engine, photos, tmp_path, capsys):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"digit {n}" for n in range(10)))
    arguments = ["run", str(tiny_engine), str(photos), "--top", "2", "--labels", str(labels), "--json", "-"]
    assert main(arguments) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [len(entry["classes"]) for entry in results] == [2, 2, 2]
    assert results[0]["classes"][0]["name"].startswith("digit ")
    assert results[0]["classes"][0]["probability"] >= results[0]["classes"][1]["probability"]


@pytest.mark.parametrize(
    "content, said", [("one\ntwo", "2 names and 10 classes"), (None, "cannot read the labels")]
)
def test_labels_that_do_not_fit(tiny_engine, photos, tmp_path, capsys, content, said):
    labels = tmp_path / "labels.txt"
    if content is not None:
        labels.write_text(content)
    assert main(["run", str(tiny_engine), str(photos), "--labels", str(labels)]) == 2
    assert said in capsys.readouterr().err.replace("Cannot", "cannot")


def test_no_score_is_no_number(tiny_engine, photos, capsys):
    assert main(["run", str(tiny_engine), str(photos), "--score", "nan"]) == 2
    assert "a number from 0 to 1" in capsys.readouterr().err


def test_run_names_the_unreadable_image(tiny_engine, photos, capsys):
    (photos / "b.png").write_bytes(b"not a picture")
    assert main(["run", str(tiny_engine), str(photos)]) == 2
    assert "b.png" in capsys.readouterr().err


def test_inspect_an_engine(tiny_engine, capsys):
    assert main(["inspect", str(tiny_engine)]) == 0
    text = capsys.readouterr().out
    assert "runs here   yes" in text and "layer4.0" in text and "skips the block per image" in text
    assert main(["inspect", str(tiny_engine), "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["kind"] == "engine" and data["runs_here"] and data["manifest"]["arch"] == "laud_resnet"


def test_what_the_device_only_compiles_takes_no_other_schedule(tiny_onnx, tmp_path, capsys):
    path = tmp_path / "nano.laudc"
    assert main(["build-engine", str(tiny_onnx), "--device", "nano", "-o", str(path)]) == 0
    there = ["--target", "ssh://nobody@127.0.0.1:1", "-o", str(tmp_path / "finished.laudc")]
    for more in ([], there, ["--device", "nano", *there]):
        output = [] if more else there[2:]
        assert main(["build-engine", str(path), "--batch", "2", *more, *output]) == 2
        assert "cannot be built with --batch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tensorrt", "10.3"], "--tensorrt does not fit an engine for onnxruntime"),
        (["--timing-cache", "cache"], "--timing-cache does not fit an engine for onnxruntime"),
        (["--device", "h200", "--backend", "onnxruntime-cuda", "--tensorrt", "10.3"], "for onnxruntime-cuda"),
        (["--device", "nano", "--timing-cache", "cache"], "timing cache of this machine cannot be used"),
    ],
)
def test_options_that_another_machine_would_not_heed(tiny_onnx, tmp_path, capsys, more, said):
    """Before anybody is asked for a connection."""
    words = ["build-engine", str(tiny_onnx), "--target", "ssh://nobody@127.0.0.1:1", "-o", str(tmp_path / "a.laudc")]
    assert main([*words, *more]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["profile"], ["build-engine", "-o", "nowhere.laudc"]])
def test_host_keys_are_of_a_target(tiny_onnx, verb, capsys):
    assert main([*verb, str(tiny_onnx), "--host-keys", "accept-new"]) == 2
    assert "--host-keys was given without --target" in capsys.readouterr().err


def test_finishing_elsewhere_takes_no_timing_cache(tiny_onnx, tmp_path, capsys):
    path = str(tmp_path / "nano.laudc")
    assert main(["build-engine", str(tiny_onnx), "--device", "nano", "-o", path]) == 0
    words = ["build-engine", path, "--target", "ssh://nobody@127.0.0.1:1", "-o", str(tmp_path / "a.laudc")]
    assert main([*words, "--timing-cache", "cache"]) == 2
    assert "timing cache of this machine cannot be used" in capsys.readouterr().err


def test_an_export_does_not_overwrite_its_checkpoint(tiny_checkpoint, tmp_path, capsys):
    copy, link = tmp_path / "copy.pth", tmp_path / "link.onnx"
    copy.write_bytes(tiny_checkpoint.read_bytes())
    link.symlink_to(copy)
    for output in (copy, link):
        assert main(["export", str(copy), "-o", str(output)]) == 2
        assert "the file that the result is made from" in capsys.readouterr().err
    assert copy.read_bytes() == tiny_checkpoint.read_bytes()
    config = tmp_path / "config.json"
    config.write_text("{}")
    assert main(["export", str(copy), "--config", str(config), "-o", str(config)]) == 2
    assert "the file that the result is made from" in capsys.readouterr().err and config.read_text() == "{}"


def test_an_engine_does_not_overwrite_the_timing_cache(tiny_onnx, tmp_path, capsys):
    cache, path = tmp_path / "timing.cache", str(tmp_path / "nano.laudc")
    cache.write_bytes(b"measured before")
    assert main(["build-engine", str(tiny_onnx), "--device", "nano", "-o", path]) == 0
    for model in (str(tiny_onnx), path):
        words = ["build-engine", model, "--device", "nano", "--timing-cache", str(cache), "-o", str(cache)]
        assert main(words) == 2
        assert "the file that the result is made from" in capsys.readouterr().err
    assert cache.read_bytes() == b"measured before"


def test_json_does_not_overwrite_what_another_argument_names(tiny_engine, tmp_path, capsys):
    copy, link = tmp_path / "copy.laudc", tmp_path / "link.json"
    copy.write_bytes(tiny_engine.read_bytes())
    link.symlink_to(copy)
    for target in (copy, link):
        assert main(["inspect", str(copy), "--json", str(target)]) == 2
        assert "nother argument names it too" in capsys.readouterr().err
    assert copy.read_bytes() == tiny_engine.read_bytes()
    assert main(["inspect", str(copy), "-q", "--json", str(tmp_path / "a.json")]) == 0
    assert main(["inspect", str(copy), "-q", "--json", str(tmp_path / "a.json")]) == 0


def test_an_engine_does_not_overwrite_what_it_is_made_from(tiny_onnx, tmp_path, capsys):
    """Nor does one that is made on another machine; before anybody is asked for a connection."""
    model, stats = tmp_path / "copy.onnx", tmp_path / "stats.json"
    model.write_bytes(tiny_onnx.read_bytes())
    stats.write_text("{}")
    for target in ([], ["--target", "ssh://nobody@127.0.0.1:1"]):
        for output in (model, stats):
            words = ["build-engine", str(model), "--activation", str(stats), "-o", str(output), *target]
            assert main(words) == 2
            assert "the file that the result is made from" in capsys.readouterr().err
    assert model.read_bytes() == tiny_onnx.read_bytes() and stats.read_text() == "{}"


def test_inspect_says_what_predictions_rest_on(tiny_onnx, tmp_path, capsys):
    path = tmp_path / "nano.laudc"
    assert main(["build-engine", str(tiny_onnx), "--device", "nano", "-o", str(path)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(path)]) == 0
    assert "Predicted (modelled, not measured): mean" in capsys.readouterr().out


def test_inspect_an_engine_of_another_installation(tiny_engine, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LAUDC_NATIVE_LIBRARY", str(tmp_path / "none.so"))
    assert main(["inspect", str(tiny_engine)]) == 0
    assert "runs here   no" in capsys.readouterr().out


def test_inspect_a_model(tiny_onnx, capsys):
    assert main(["inspect", str(tiny_onnx), "--json", "-"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert data["kind"] == "onnx" and data["model"]["dynamic_blocks"] == 4
    assert "million MACs" in captured.err


def test_inspect_a_checkpoint_says_what_to_do(tiny_checkpoint, capsys):
    assert main(["inspect", str(tiny_checkpoint)]) == 2
    assert "laudc export" in capsys.readouterr().err


def test_inspect_nothing(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "none")]) == 2
    (tmp_path / "text").write_text("hello")
    assert main(["inspect", str(tmp_path / "text")]) == 2
    assert "not an ONNX model" in capsys.readouterr().err


def test_doctor_is_content_here(native, capsys):
    assert main(["doctor"]) == 0
    assert "operators" in capsys.readouterr().out


def test_doctor_finds_a_missing_library(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LAUDC_NATIVE_LIBRARY", str(tmp_path / "none.so"))
    assert main(["doctor", "--json", "-"]) == 3
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert not data["ok"] and "make native" in captured.err
    failed = [check["name"] for check in data["checks"] if check["required"] and not check["ok"]]
    assert failed == ["native library"]


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[: len(raw) // 2], lambda raw: raw[:500] + b"\0" + raw[501:]]
)
def test_damaged_engines_are_2(tiny_engine, tmp_path, capsys, damage):
    path = tmp_path / "a.laudc"
    path.write_bytes(damage(tiny_engine.read_bytes()))
    for verb in ("profile", "inspect"):
        assert main([verb, str(path)]) == 2
        assert "not an intact engine" in capsys.readouterr().err
