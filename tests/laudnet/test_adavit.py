"""AdaViT's checkpoint files: every layout the authors write loads strictly, and says which network it is."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import laudnet
import numpy as np
import pytest
import torch

from tests.laudnet.vit_models import VARIANTS, images, vit_model

ARCH = "ada_step_t2t_vit_19_lnorm"


def switches_of(model: laudnet.LaudVit) -> dict[str, Any]:
    """What AdaViT's argument parser would hold."""
    config = model.config
    names = ("ada_head", "ada_head_v2", "ada_head_attn", "ada_layer", "ada_token", "ada_token_with_mlp", "norm_policy")
    switches = {name: getattr(config, name) for name in names}
    # The real parser has no such argument; without a head policy these small networks need it.
    return {"model": ARCH, "lr": 5e-4, "img_size": None, "num_heads": config.num_heads, **switches}


def authors_file(network: laudnet.LaudVit, path: Path, **changes: Any) -> Path:
    """A file as AdaViT's saver writes it; `changes` replace entries, None removes one."""
    content = {
        "epoch": 7,
        "arch": ARCH,
        "state_dict": network.state_dict(),
        "optimizer": {"state": {}, "param_groups": []},
        "version": 2,
        "args": argparse.Namespace(**switches_of(network)),
        "metric": np.float64(81.1),
        **changes,
    }
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path


def assert_same(path: Path, model: laudnet.LaudVit, **options: Any) -> laudnet.LoadedCheckpoint:
    loaded = laudnet.load_checkpoint(path, **options)
    x = images(model, 2)
    assert not loaded.model.training
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(x), model(x), rtol=0, atol=0)
    return loaded


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "uneven"])
def test_variants(variant: str, tmp_path: Path) -> None:
    model = vit_model(variant)
    loaded = assert_same(authors_file(model, tmp_path / "c.pth.tar"), model)
    assert loaded.source_kind == "authors"
    assert loaded.config == model.config


def test_averaged_weights_are_preferred_and_prefixes_stripped(tmp_path: Path) -> None:
    model, other = vit_model(), vit_model(seed=1)
    averaged = OrderedDict((f"module.{key}", value) for key, value in model.state_dict().items())
    assert_same(authors_file(other, tmp_path / "c.pth.tar", state_dict_ema=averaged), model)


def test_joint_projections_are_split(tmp_path: Path) -> None:
    model = vit_model("patches")
    joint: dict[str, torch.Tensor] = {}
    state = model.state_dict()
    for key, value in state.items():
        if ".attn.query." in key:
            parts = [value, state[key.replace("query", "key")], state[key.replace("query", "value")]]
            joint[key.replace("query", "qkv")] = torch.cat(parts)
        elif ".attn.key." not in key and ".attn.value." not in key:
            joint[key] = value
    assert_same(authors_file(model, tmp_path / "c.pth", state_dict=None, model=joint), model)


def test_without_arguments_the_policies_are_laudnets(tmp_path: Path) -> None:
    model = vit_model()
    assert assert_same(authors_file(model, tmp_path / "c.pth.tar", args=None), model).config == model.config
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    assert assert_same(tmp_path / "bare.pth", model).source_kind == "state_dict"


def test_configuration_overrules_the_file(tmp_path: Path) -> None:
    model = vit_model("head_outputs")
    path = authors_file(model, tmp_path / "c.pth.tar", args=None)
    assert not laudnet.load_checkpoint(path).config.ada_head_v2
    assert_same(path, model, config=model.config)


def test_arguments_may_be_a_dict_and_hold_anything(tmp_path: Path) -> None:
    model = vit_model("head_outputs")
    args = {**switches_of(model), "device": torch.device("cpu"), "note": [1, {"a": None}]}
    assert_same(authors_file(model, tmp_path / "c.pth.tar", args=args), model)


def test_own_format(tmp_path: Path) -> None:
    model = vit_model("uneven")
    laudnet.save_checkpoint(tmp_path / "c.pth", model, {"accuracy": 0.5})
    loaded = assert_same(tmp_path / "c.pth", model)
    assert (loaded.source_kind, loaded.config, loaded.metrics) == ("laudnet", model.config, {"accuracy": 0.5})


def test_heads_leave_no_trace_in_attention(tmp_path: Path) -> None:
    model = vit_model("token")
    with pytest.raises(laudnet.CheckpointError, match="do not say how many heads share the 48 features"):
        laudnet.load_checkpoint(authors_file(model, tmp_path / "c.pth.tar", args=None))
    assert_same(authors_file(model, tmp_path / "c.pth.tar", args=None), model, config=model.config)


def test_named_architecture_is_recognised_by_its_sizes() -> None:
    with torch.device("meta"):
        model = laudnet.LaudVit(laudnet.VitConfig.for_arch("ada_step_deit_tiny_patch16_224"))
    assert laudnet.adavit.read_config({}, model.state_dict()) == model.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("blocks.1.mlp.fc2.bias"), r"1 tensor \(blocks.1.mlp.fc2.bias\) missing"),
        (lambda state: state.update(extra=torch.ones(3)), r"1 tensor \(extra\) not part of the network"),
        (lambda state: state.update({"norm.weight": torch.ones(3)}), "of another shape"),
        (lambda state: state.pop("blocks.2.head_select.mlp_head.bias"), "correct ada_head, ada_layer"),
        (lambda state: state.pop("head.weight"), "not usable"),
        (lambda state: state.update({"cls_token": torch.zeros(1, 1, 50)}), "does not divide"),
        (lambda state: state.update({"pos_embed": torch.zeros(1, 18, 48)}), "pos_embed"),
    ],
)
def test_tensors_that_do_not_fit(change: Any, message: str, tmp_path: Path) -> None:
    model = vit_model()
    state = OrderedDict(model.state_dict())
    change(state)
    with pytest.raises(laudnet.CheckpointError, match=f"(?i){message}"):
        laudnet.load_checkpoint(authors_file(model, tmp_path / "c.pth.tar", state_dict=state))


def test_shared_choice_of_tokens_is_another_network(tmp_path: Path) -> None:
    model = vit_model()
    args = {**switches_of(model), "ada_token_nonstep": True}
    with pytest.raises(laudnet.CheckpointError, match="ada_token_nonstep is set"):
        laudnet.load_checkpoint(authors_file(model, tmp_path / "c.pth.tar", args=args))


def test_configuration_of_another_family(tmp_path: Path) -> None:
    path = authors_file(vit_model(), tmp_path / "c.pth.tar")
    config = laudnet.LaudConfig.for_arch("uni_resnet50")
    with pytest.raises(laudnet.CheckpointError, match="these are the tensors of a vision transformer"):
        laudnet.load_checkpoint(path, config)
