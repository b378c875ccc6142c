"""LAUD-T2T-ViT in torch against the plain re-implementation, its configuration and its training pass."""

from __future__ import annotations

import re

import laudnet
import numpy as np
import pytest
import torch

from tests.laudnet.adavit_reference import Reference
from tests.laudnet.vit_models import VARIANTS, images, vit_config, vit_model


def reference_of(model: laudnet.LaudVit) -> Reference:
    config = model.config
    switches = {
        "heads": config.num_heads,
        "scale": config.scale,
        "eps": config.layer_norm_eps,
        "t2t": config.tokens_to_token,
        "patch": config.patch_size,
        "ada_head_attn": config.ada_head_attn,
        "ada_head_v2": config.ada_head_v2,
        "ada_token_with_mlp": config.ada_token_with_mlp,
    }
    return Reference({key: value.numpy() for key, value in model.state_dict().items()}, switches)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_against_the_plain_reference(variant: str) -> None:
    model = vit_model(variant)
    x = images(model, 2)
    found = laudnet.trace(model, x)
    reference = reference_of(model)
    kept, all_of = 0, 0
    for image in range(2):
        wanted = reference.logits(x[image].double().numpy())
        np.testing.assert_allclose(found.logits[image].numpy(), wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
        for block, decisions in zip(found.blocks, reference.decisions, strict=True):
            for kind in ("token", "head", "layer"):
                keep = getattr(block, f"{kind}_keep")
                assert (keep is None) == (kind not in decisions), (block.name, kind)
                if keep is not None:
                    np.testing.assert_array_equal(keep[image].numpy(), decisions[kind])
                    kept, all_of = kept + int(keep[image].sum()), all_of + keep[image].numel()
    assert 0 < kept < all_of


def test_keys_are_adavits() -> None:
    with torch.device("meta"):
        model = laudnet.LaudVit(laudnet.VitConfig())
    keys = model.state_dict()
    assert len(keys) == 391
    for key, shape in {
        "cls_token": (1, 1, 448),
        "pos_embed": (1, 197, 448),
        "tokens_to_token.attention1.w": (32, 64),
        "tokens_to_token.attention1.kqv.weight": (192, 147),
        "tokens_to_token.attention2.kqv.weight": (192, 576),
        "tokens_to_token.project.weight": (448, 576),
        "blocks.0.attn.token_select.mlp_head.weight": (1, 448),
        "blocks.18.attn.query.weight": (448, 448),
        "blocks.1.head_select.mlp_head.weight": (7, 448),
        "blocks.1.layer_select.mlp_head.bias": (2,),
        "blocks.18.mlp.fc1.weight": (1344, 448),
        "head.weight": (1000, 448),
    }.items():
        assert tuple(keys[key].shape) == shape, key
    assert not any(key.startswith(("blocks.0.head_select", "blocks.0.layer_select")) for key in keys)
    assert not any(re.match(r"blocks\.\d+\.attn\.(query|key|value)\.bias", key) for key in keys)


@pytest.mark.parametrize("arch", sorted(laudnet.vit_config.VIT_ARCHS))
def test_published_architectures(arch: str) -> None:
    config = laudnet.VitConfig.for_arch(arch)
    assert config.tokens == 197 and config.head_dim == 64
    assert laudnet.VitConfig.from_dict(config.to_dict()) == config
    assert laudnet.config_from_dict({"arch": arch}) == config


def test_dropped_tokens_are_left_as_they_were() -> None:
    model = vit_model("token")
    x = model._embed(images(model, 1))
    block = model.blocks[0]
    y, run = block.run(x, "blocks.0")
    assert run.token is not None
    dropped = run.token.keep[0] == 0
    assert dropped.any() and not dropped.all()
    torch.testing.assert_close(y[0, 1:][dropped], x[0, 1:][dropped], rtol=0, atol=0)


def test_no_token_but_the_class_token() -> None:
    model = vit_model()
    with torch.no_grad():
        for _, block in model.named_blocks():
            block.attn.token_select.mlp_head.bias.fill_(-100)
    found = laudnet.trace(model, images(model, 2))
    assert torch.isfinite(found.logits).all()
    assert not any(block.token_keep.any() for block in found.blocks)


def test_everything_kept_is_the_dense_network() -> None:
    model = vit_model()
    with torch.no_grad():
        for policy in model.policies():
            policy.mlp_head.bias.fill_(100)
        x = images(model, 2)
        torch.testing.assert_close(model(x), model.forward_dense(x), rtol=0, atol=1e-5)


def test_training_pass_reaches_the_policies() -> None:
    model = vit_model().train()
    model.temperature = 2.0
    torch.manual_seed(0)
    run = model.run(images(model, 2))
    for block in run.blocks:
        for decision in (block.token, block.head, block.layer):
            assert decision is None or set(decision.keep.detach().unique().tolist()) <= {0.0, 1.0}
    run.logits.sum().backward()
    for policy in model.policies():
        assert policy.temperature == 2.0
    assert model.blocks[1].head_select.mlp_head.weight.grad.abs().sum() > 0
    assert model.blocks[0].attn.token_select.mlp_head.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="call model.eval"):
        laudnet.trace(model, images(model, 1))


@pytest.mark.parametrize("shape", [(1, 3, 48, 32), (1, 1, 48, 48), (3, 48, 48)])
def test_images_of_another_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(batch, 3, 48, 48\)"):
        vit_model()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 5}, "num_heads: 5 does not divide the 48 features"),
        ({"mlp_ratio": 1.05}, "mlp_ratio: 1.05 gives 50 hidden units, which the 3 heads cannot share"),
        ({"input_size": 50}, "input_size: 50 is not a multiple of 16"),
        ({"patch_size": 8}, "patch_size: the T2T stem makes tokens of 16 pixels"),
        ({"ada_head": False, "ada_head_v2": True}, "ada_head_v2: it needs ada_head"),
        ({"ada_head_attn": True, "ada_head_v2": True}, "ada_head_v2: it excludes ada_head_attn"),
        ({"ada_token": False}, "ada_token_with_mlp: it needs ada_token"),
        ({"depth": 0}, "depth: expected an integer"),
        ({"depth": True}, "depth: expected an integer"),
        ({"ada_layer": 1}, "ada_layer: expected true or false"),
        ({"layer_norm_eps": -1.0}, "layer_norm_eps: expected a positive number"),
        ({"keep_layers": 0}, "keep_layers: expected an integer from 1"),
    ],
)
def test_configurations_that_make_no_network(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        vit_config("all", **options)


def test_configuration_of_a_named_architecture() -> None:
    with pytest.raises(ValueError, match="depth: ada_step_t2t_vit_19_lnorm has 19, got 18; use arch 'laud_vit'"):
        laudnet.VitConfig.for_arch("ada_step_t2t_vit_19_lnorm", depth=18)
    with pytest.raises(ValueError, match="arch: 'ada_step_t2t_vit_20_lnorm' is not known"):
        laudnet.VitConfig(arch="ada_step_t2t_vit_20_lnorm")
    with pytest.raises(ValueError, match="unknown field dyn_mode; known are arch, embed_dim"):
        laudnet.config_from_dict({"arch": "laud_vit", "dyn_mode": ["spatial"] * 4})
