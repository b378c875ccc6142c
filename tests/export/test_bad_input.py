"""What `export` says when it cannot do what was asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import laudnet
import pytest
import torch

import laudc
from laudc.errors import UserError
from laudc.export import export
from tests.export.models import small_config, small_model


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "net.pth"
    laudnet.save_checkpoint(path, small_model("both"))
    return path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "bare.pth"
    torch.save(small_model("both").state_dict(), path)
    return path


@contextlib.contextmanager
def _refused(*words: str) -> Iterator[None]:
    """A UserError is raised inside, and its message has all of the words."""
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value).lower()
    assert caught.value.exit_code == 2
    assert all(word.lower() in message for word in words), message


def test_missing_file(tmp_path: Path) -> None:
    with _refused("nothing.pth", "no such file"):
        export(tmp_path / "nothing.pth")


def test_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"hello, this is text")
    with _refused("a.pth"):
        export(tmp_path / "a.pth")


def test_bare_state_dict_needs_a_configuration(bare: Path, tmp_path: Path) -> None:
    with _refused("--config"):
        export(bare)
    with _refused("bare.pth"):
        export(bare, arch="uni_resnet50")
    config = tmp_path / "net.json"
    config.write_text(json.dumps(small_config("both").to_dict()))
    from_file = export(bare, config=config)
    from_mapping = export(bare, config=small_config("both").to_dict())
    assert from_file == from_mapping == export(bare, config=small_config("both"))


def test_arch_must_agree(checkpoint: Path) -> None:
    assert export(checkpoint, arch="laud_resnet")
    with _refused("uni_resnet50", "laud_resnet"):
        export(checkpoint, arch="uni_resnet50")
    with _refused("uni_resnet50", "laud_resnet"):
        export(checkpoint, arch="uni_resnet50", config=small_config("both"))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("[1, 2]", "no configuration"),
        ("a: b: c", "neither JSON nor YAML"),
        ("[" * 10_000, "nested too deeply"),
        ('{"arch": "laud_resnet", "arch": "uni_resnet50"}', "'arch' is there twice"),
        ('{"arch": "laud_resnet"}', "layers"),
        ('{"arch": "uni_resnet50", "speed": 3}', "speed"),
        ('{"arch": "uni_resnet50", "input_size": "big"}', "input_size"),
        ('{"arch": "vgg"}', "vgg"),
    ],
)
def test_bad_configuration_files(bare: Path, tmp_path: Path, content: str, word: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(content)
    with _refused(word):
        export(bare, config=config)


def test_missing_and_binary_configuration(bare: Path, tmp_path: Path) -> None:
    with _refused("nowhere.json"):
        export(bare, config=tmp_path / "nowhere.json")
    with _refused("not a text file"):
        export(bare, config=bare)


def test_configuration_of_another_network(checkpoint: Path) -> None:
    with _refused("net.pth"):
        export(checkpoint, config=small_config("both", layers=(1, 1, 1, 1)))


@pytest.mark.parametrize("size", [128, (64, 96)])
def test_spatial_models_take_one_size(size: int | tuple[int, int]) -> None:
    with _refused("64x64", "--input-size"):
        export(small_model("layer"), input_size=size)
    assert export(small_model("layer"), input_size=64)


@pytest.mark.parametrize("size", [0, (64, -1), 1 << 20])
def test_impossible_sizes(size: int | tuple[int, int]) -> None:
    with _refused("input size"):
        export(small_model("channel"), input_size=size)


@pytest.mark.parametrize("opset", [11, 17, 24, 99])
def test_opset(opset: int) -> None:
    with _refused(str(opset), "--opset 20"):
        export(small_model("channel"), opset=opset)


def test_options_of_checkpoints_are_refused_for_models() -> None:
    with _refused("configuration"):
        export(small_model("channel"), arch="laud_resnet")


def test_other_models() -> None:
    with _refused("Linear"):
        export(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    with _refused("int"):
        export(3)  # type: ignore[arg-type]


def test_unknown_module_is_named() -> None:
    model = small_model("channel")
    model.layer2[1].masker_channel = torch.nn.Identity()
    with _refused("layer2.1.masker_channel", "Identity"):
        export(model)
    model = small_model("channel")
    model.relu = torch.nn.GELU()
    with _refused("relu", "GELU"):
        export(model)


def test_a_block_without_masker_is_named() -> None:
    model = small_model("layer")
    model.layer3[1].masker_spatial = None
    with _refused("layer3.1", "no masker"):
        export(model)


def test_nothing_is_left_of_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("channel")
    with _refused("folder does not exist"):
        export(model, tmp_path / "missing" / "a.onnx")
    with _refused("it is a folder"):
        export(model, tmp_path)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("laudc.files.os.fsync", no_space)
    with _refused("a.onnx", "disk is full"):
        export(model, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_survives_a_failed_export(tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    out.write_bytes(b"old")
    with pytest.raises(UserError):
        export(small_model("layer"), out, input_size=32)
    assert out.read_bytes() == b"old"
    assert export(small_model("layer"), out).ByteSize() == out.stat().st_size


def test_public_names() -> None:
    assert callable(laudc.export)
    assert laudc.export.export is export  # type: ignore[attr-defined]
    assert laudc.export(small_model("layer")) == export(small_model("layer"))
