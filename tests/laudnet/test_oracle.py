"""The authors' outputs are reproduced: logits, every mask bit, every block's mean, every count."""

from __future__ import annotations

from functools import cache

import laudnet
import numpy as np
import pytest
import torch
from laudnet import flops

from tests.laudnet.reference import Reference, load, names

each_reference = pytest.mark.parametrize("name", names())


@cache
def reference(name: str) -> Reference:
    return load(name)


@cache
def loaded(name: str) -> laudnet.LoadedCheckpoint:
    return laudnet.load_checkpoint(reference(name).checkpoint)


@cache
def traced(name: str) -> laudnet.Trace:
    return laudnet.trace(loaded(name).model, images(name))


def images(name: str) -> torch.Tensor:
    return torch.from_numpy(reference(name).outputs["input"])


def test_references_are_there() -> None:
    assert len(names()) >= 4


@each_reference
def test_logits(name: str) -> None:
    expected = reference(name).outputs["logits"]
    error = np.abs(traced(name).logits.numpy() - expected).max()
    assert error <= 1e-4 * np.abs(expected).max()


@each_reference
def test_every_mask_bit(name: str) -> None:
    blocks = {block.name: block for block in traced(name).blocks}
    assert list(blocks) == reference(name).blocks
    for block in blocks.values():
        for kind, keep, margin in (
            ("channel", block.channel_keep, block.channel_margin),
            ("spatial", block.spatial_keep, block.spatial_margin),
        ):
            expected = reference(name).mask(kind, block.name)
            assert (expected is None) == (keep is None) == (margin is None)
            if keep is not None and margin is not None and expected is not None:
                assert np.array_equal(keep.numpy(), expected.astype(bool))
                assert torch.equal(margin >= 0, keep)


@each_reference
def test_block_means(name: str) -> None:
    for block in traced(name).blocks:
        expected = reference(name).outputs[f"gap/{block.name}"]
        np.testing.assert_allclose(block.gap.numpy(), expected, rtol=1e-4, atol=1e-4)


@each_reference
def test_counts(name: str) -> None:
    model, outputs = loaded(name).model, reference(name).outputs
    with torch.no_grad():
        counted = flops.count(model, model.run(images(name)))
    np.testing.assert_allclose(float(counted.total), outputs["flops"], rtol=1e-6)
    np.testing.assert_allclose(counted.block_share.numpy(), outputs["flops_perc"], rtol=1e-5)
    for kind in ("channel", "conv1", "conv2", "conv3"):
        shares = torch.stack([getattr(block, kind) for block in counted.shares]).numpy()
        np.testing.assert_allclose(shares, outputs[f"rate_{kind}"], atol=1e-6)


@each_reference
def test_plain_call_returns_the_traced_logits(name: str) -> None:
    with torch.no_grad():
        assert torch.equal(loaded(name).model(images(name)), traced(name).logits)


@each_reference
def test_samples_do_not_influence_each_other(name: str) -> None:
    single = laudnet.trace(loaded(name).model, images(name)[1:2])
    torch.testing.assert_close(single.logits, traced(name).logits[1:2], rtol=1e-4, atol=1e-4)
