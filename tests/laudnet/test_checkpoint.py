"""Loading the authors' files, bare state dicts and our own; bad files say what is wrong, and run nothing."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pathlib
import pickle
import types
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import laudnet
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from laudnet.config import LaudConfig

from tests.laudnet.reference import load

LAYER = load("tiny_r50_layer").checkpoint
GROUPS = load("tiny_r50_mixed_groups").checkpoint


@cache
def pristine() -> dict[str, Any]:
    content: dict[str, Any] = torch.load(LAYER, weights_only=True)
    return content


@pytest.fixture
def content() -> dict[str, Any]:
    """The authors' checkpoint dict of a layer-mode network, to be changed freely."""
    return {**pristine(), "state_dict": dict(pristine()["state_dict"])}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.pth"


def refused(path: Path, config: LaudConfig | None = None) -> str:
    """The message of the refusal, which must name the file, be one paragraph and end with a way out."""
    with pytest.raises(laudnet.CheckpointError) as caught:
        laudnet.load_checkpoint(path, config)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert caught.value.fix
    assert len(message) < 700
    return message


# ------------------------------------------------------------------------------------------ good files


def test_authors_configuration() -> None:
    loaded = laudnet.load_checkpoint(GROUPS)
    assert loaded.source_kind == "authors"
    assert not loaded.model.training
    assert len(loaded.sha256) == 64
    config = loaded.config
    assert config == loaded.model.config
    assert config.arch == "uni_resnet50"
    assert config.dyn_mode == ("spatial", "both", "channel", "layer")
    assert config.channel_dyn_granularity == (2, 2, 4, 2)
    assert config.spatial_mask_channel_group == (2, 2, 1, 1)
    assert config.mask_spatial_granularity == (2, 2, 1, 1)
    assert config.channel_masker_layers == (2, 2, 2, 2)
    assert (config.input_size, config.num_classes, config.width_mult) == (96, 10, 0.125)


def test_string_paths_are_fine() -> None:
    assert laudnet.load_checkpoint(str(LAYER)).sha256 == laudnet.load_checkpoint(LAYER).sha256


def test_width_and_classes_follow_from_shapes(content: dict[str, Any], path: Path) -> None:
    text = content["hyper_set"].replace(" width_mult=0.125,", "").replace(" num_classes=10,", "")
    assert "width_mult" not in text
    torch.save({**content, "hyper_set": text}, path)
    assert laudnet.load_checkpoint(path).config == laudnet.load_checkpoint(LAYER).config


@pytest.mark.parametrize("prefix", ["module."])
def test_data_parallel_prefix(content: dict[str, Any], path: Path, prefix: str) -> None:
    content["state_dict"] = {prefix + key: value for key, value in content["state_dict"].items()}
    torch.save(content, path)
    assert same_weights(laudnet.load_checkpoint(path), laudnet.load_checkpoint(LAYER))


def test_bare_state_dict_with_a_configuration(content: dict[str, Any], path: Path) -> None:
    torch.save(content["state_dict"], path)
    expected = laudnet.load_checkpoint(LAYER)
    loaded = laudnet.load_checkpoint(path, expected.config)
    assert loaded.source_kind == "state_dict"
    assert same_weights(loaded, expected)


def test_legacy_file(content: dict[str, Any], path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert same_weights(laudnet.load_checkpoint(path), laudnet.load_checkpoint(LAYER))


@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_leftovers_of_training_scripts(content: dict[str, Any], path: Path, zipped: bool) -> None:
    content["args"] = argparse.Namespace(lr=np.float64(0.1), out=pathlib.PurePosixPath("/x"))
    content["log"] = [
        np.float32(1),
        np.arange(3),
        collections.defaultdict(list, {"a": [1]}),
        collections.deque([1]),
    ]
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert same_weights(laudnet.load_checkpoint(path), laudnet.load_checkpoint(LAYER))


def test_half_precision_weights_become_float32(content: dict[str, Any], path: Path) -> None:
    content["state_dict"] = {key: value.half() for key, value in content["state_dict"].items()}
    torch.save(content, path)
    model = laudnet.load_checkpoint(path).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_our_own_format(tmp_path: Path) -> None:
    first = laudnet.load_checkpoint(GROUPS)
    path = tmp_path / "own.pth"
    laudnet.save_checkpoint(path, first.model, {"accuracy": 0.5})
    second = laudnet.load_checkpoint(path)
    assert second.source_kind == "laudnet"
    assert second.config == first.config
    assert second.metrics == {"accuracy": 0.5}
    assert same_weights(second, first)
    assert [entry.name for entry in tmp_path.iterdir()] == ["own.pth"]
    assert set(torch.load(path, weights_only=True)) == {"format", "config", "state_dict", "metrics"}


def test_saving_failure_leaves_the_old_file(tmp_path: Path) -> None:
    model = laudnet.load_checkpoint(LAYER).model
    path = tmp_path / "own.pth"
    path.write_bytes(b"old")
    with pytest.raises(TypeError):
        laudnet.save_checkpoint(path, model, {"accuracy": object()})
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def same_weights(first: laudnet.LoadedCheckpoint, second: laudnet.LoadedCheckpoint) -> bool:
    one, two = first.model.state_dict(), second.model.state_dict()
    return list(one) == list(two) and all(torch.equal(one[key], two[key]) for key in one)


# ------------------------------------------------------------------------------------ not a checkpoint


def test_missing_file(path: Path) -> None:
    assert "no such file" in refused(path)


def test_directory(tmp_path: Path) -> None:
    assert "directory" in refused(tmp_path)


def test_file_under_a_file(path: Path) -> None:
    path.write_bytes(b"x")
    refused(path / "net.pth")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"hello\n" * 30, "text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "PNG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        ((30).to_bytes(8, "little") + b"{" + b" " * 40, "safetensors"),
        (b"\x00\x01\x02\x03" * 20, "not a format torch writes"),
        (b"\x80\x02\x8a", "damaged"),
        (b"\x80\x04" + bytes(40), "pickle"),
        (b"PK\x03\x04", "damaged"),
    ],
)
def test_other_files(path: Path, data: bytes, said: str) -> None:
    path.write_bytes(data)
    assert said in refused(path)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_cut_short(path: Path, share: float) -> None:
    data = LAYER.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "damaged or cut short" in refused(path)


def test_cut_short_legacy(content: dict[str, Any], path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    assert "damaged or cut short" in refused(path)


def test_flipped_bit(path: Path) -> None:
    data = bytearray(LAYER.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert "damaged" in refused(path)


def test_compressed_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    assert "compressed" in refused(path)


def test_other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "zip archive" in refused(path)


def test_torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert "TorchScript" in refused(path)


@pytest.mark.parametrize("stored", [[1, 2], torch.zeros(3), "text", argparse.Namespace(a=1), {}, {"a": 1}])
def test_no_tensors(path: Path, stored: object) -> None:
    torch.save(stored, path)
    assert "tensors" in refused(path)


# --------------------------------------------------------------------------------------- hostile files

CANARY = "LAUDNET_TEST_CANARY"


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Call(os.system, "true"), "system"),
        (Call(eval, f"__import__('os').environ.setdefault('{CANARY}', '1')"), "eval"),
        (Call(exec, f"import os; os.environ['{CANARY}'] = '1'"), "exec"),
        (Call(os.putenv, CANARY, "1"), "putenv"),
        (Call(getattr, CANARY, "upper"), "getattr"),
    ],
    ids=["system", "eval", "exec", "putenv", "getattr"],
)
def test_code_is_refused_by_name_and_never_runs(
    content: dict[str, Any], path: Path, zipped: bool, call: Call, name: str
) -> None:
    content["optimizer"] = call
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refused(path)
    assert "code" in message
    assert name in message
    assert CANARY not in os.environ


def test_plain_pickle_with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(Call(os.putenv, CANARY, "1"), protocol=2))
    refused(path)
    assert CANARY not in os.environ


def test_functions_of_harmless_packages_do_not_run_either(content: dict[str, Any], path: Path) -> None:
    target = path.with_suffix(".npy")
    content["optimizer"] = Call(np.save, str(target), 1)
    torch.save(content, path)
    assert laudnet.load_checkpoint(path).source_kind == "authors"
    assert not target.exists()


def test_class_of_an_unknown_module(content: dict[str, Any], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("somebodys_code")
    trainer = type("Trainer", (), {"__module__": "somebodys_code"})
    module.Trainer = trainer  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "somebodys_code", module)
    content["trainer"] = trainer()
    torch.save(content, path)
    assert "somebodys_code.Trainer" in refused(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), replacement=st.binary(min_size=1, max_size=6))
def test_garbled_pickles_never_escape(path: Path, position: float, replacement: bytes) -> None:
    buffer = io.BytesIO()  # the old format has no checksums, so every byte reaches the unpickler
    torch.save(
        {"state_dict": {"fc.weight": torch.ones(2)}, "log": [1.5, "a", {"b": (2, None)}]},
        buffer,
        _use_new_zipfile_serialization=False,
    )
    data = bytearray(buffer.getvalue())
    start = int(position * len(data))
    data[start : start + len(replacement)] = replacement
    path.write_bytes(bytes(data))
    refused(path)


def test_tensor_that_claims_more_than_it_holds(content: dict[str, Any], path: Path) -> None:
    content["state_dict"]["fc.weight"] = torch.zeros(1).expand(10**6, 10**4)
    torch.save(content, path)
    assert "claimed" in refused(path)
    assert path.stat().st_size < 4e6


def test_many_tensors_on_one_storage(content: dict[str, Any], path: Path) -> None:
    shared = torch.zeros(10**6)
    content["state_dict"].update({f"extra.{index}": shared for index in range(50)})
    torch.save(content, path)
    assert "claim" in refused(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.to_sparse(),
        lambda value: value.to("meta"),
        lambda value: value.to(torch.complex64),
    ],
    ids=["sparse", "meta", "complex"],
)
def test_exotic_tensors(content: dict[str, Any], path: Path, change: Callable[..., torch.Tensor]) -> None:
    content["state_dict"]["fc.weight"] = change(content["state_dict"]["fc.weight"])
    torch.save(content, path)
    assert "fc.weight" in refused(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_diverged_weights(content: dict[str, Any], path: Path, value: float) -> None:
    content["state_dict"]["fc.bias"] = torch.full((10,), value)
    content["state_dict"]["layer1.0.bn1.weight"] = torch.full((8,), value)
    torch.save(content, path)
    message = refused(path)
    assert "2 tensors" in message
    assert "fc.bias" in message


def test_negative_variance(content: dict[str, Any], path: Path) -> None:
    content["state_dict"]["bn1.running_var"] = torch.full((8,), -1.0)
    torch.save(content, path)
    assert "bn1.running_var" in refused(path)


@pytest.mark.parametrize(
    "config",
    [
        {"arch": "laud_resnet", "layers": [10**9, 1, 1, 1]},
        {"arch": "laud_resnet", "layers": [1, 1, 1, 1], "width_mult": 1e5, "input_size": 2**30},
        {"surprise": 1},
        [],
        None,
    ],
)
def test_hostile_configuration(content: dict[str, Any], path: Path, config: object) -> None:
    torch.save({"format": "laudnet/1", "config": config, "state_dict": content["state_dict"]}, path)
    refused(path)


def test_future_format(content: dict[str, Any], path: Path) -> None:
    torch.save({"format": "laudnet/9", "config": {}, "state_dict": content["state_dict"]}, path)
    assert "laudnet/9" in refused(path)


# --------------------------------------------------------------------------------- wrong configuration


def test_bare_state_dict_names_the_flags(content: dict[str, Any], path: Path) -> None:
    torch.save(content["state_dict"], path)
    message = refused(path)
    assert "--arch" in message
    assert "--config" in message
    assert "uni_resnet50" in message


@pytest.mark.parametrize("option", ["dyn_mode", "IMAGE_SIZE", "mask_channel_group", "arch"])
def test_incomplete_hyper_set(content: dict[str, Any], path: Path, option: str) -> None:
    content["hyper_set"] = content["hyper_set"].replace(f"{option}=", f"old_{option}=")
    torch.save(content, path)
    message = refused(path)
    assert option in message
    assert "--config" in message


def test_own_configuration_overrules_a_broken_one(content: dict[str, Any], path: Path) -> None:
    content["hyper_set"] = "Namespace()"
    torch.save(content, path)
    assert laudnet.load_checkpoint(path, laudnet.load_checkpoint(LAYER).config).source_kind == "authors"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("uni_resnet50", "uni_resnet101", "3-4-6-3"),
        ("uni_resnet50", "lad_regnet_y_400mf", "lad_regnet_y_400mf"),
        (" dyn_mode='layer-layer-layer-layer'", " dyn_mode='both-both-both-both'", "masker_channel"),
        (" dyn_mode='layer-layer-layer-layer'", " dyn_mode='layer-layer-layer'", "dyn_mode"),
        (" dyn_mode='layer-layer-layer-layer'", " dyn_mode='layer-layer-layer-none'", "dyn_mode"),
        ("num_classes=10", "num_classes=11", "num_classes is 10"),
        ("width_mult=0.125", "width_mult=0.25", "width_mult is 0.125"),
        ("width_mult=0.125", "width_mult=1.2.3", "width_mult"),
        ("mask_channel_group='1-1-1-1'", "mask_channel_group='2-1-1-1'", "spatial_mask_channel_group"),
        ("mask_channel_group='1-1-1-1'", "mask_channel_group='x-1-1-1'", "mask_channel_group"),
        ("IMAGE_SIZE=64", "IMAGE_SIZE=70", "input_size"),
        ("IMAGE_SIZE=64", "IMAGE_SIZE=64, IMAGE_SIZE=96", "2 different values"),
    ],
)
def test_configuration_that_does_not_fit(content: dict[str, Any], path: Path, old: str, new: str, said: str) -> None:
    assert old in content["hyper_set"]
    content["hyper_set"] = content["hyper_set"].replace(old, new)
    torch.save(content, path)
    assert said in refused(path)


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (lambda key: ".masker_" not in key, "static network"),
        (lambda key: "layer3.5" not in key, "3-4-5-3"),
        (lambda key: key != "bn1.bias", "bn1.bias"),
    ],
    ids=["static", "one block less", "one tensor less"],
)
def test_missing_keys(content: dict[str, Any], path: Path, keep: Callable[[str], bool], said: str) -> None:
    content["state_dict"] = {key: value for key, value in content["state_dict"].items() if keep(key)}
    torch.save(content, path)
    message = refused(path)
    assert "missing" in message
    assert said in message


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("trunk_output.block1.weight", "RegNet"),
        ("backbone.conv1.weight", "detector"),
        ("cls_token", "transformer"),
    ],
)
def test_other_families(path: Path, key: str, said: str) -> None:
    torch.save({"state_dict": {key: torch.zeros(2)}}, path)
    assert said in refused(path)
    assert said in refused(path, LaudConfig())
