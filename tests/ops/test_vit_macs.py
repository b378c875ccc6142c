"""MACs of transformer blocks: against a brute count over what every output depends on, and whole networks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import laudc
from laudc.ops.macs import BlockMasks, masks_of_image, network_macs, network_shape
from laudc.ops.vit_macs import VitBlockShape, vit_block_macs
from tests.laudnet.vit_models import vit_model

PROPERTY = settings(deadline=None, derandomize=True, database=None, max_examples=80)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[VitBlockShape, dict[str, np.ndarray]]:
    """A block of five tokens and three heads of two features, and its decisions."""
    masks = {
        kind: np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)), np.float32)
        for kind, n in (("token", 4), ("head", 3), ("layer", 2))
    }
    shape = VitBlockShape(
        "b",
        tokens=5,
        dim=6,
        heads=3,
        hidden=12,
        masker=7,
        tokens_in_mlp=draw(st.booleans()),
        dropped_heads=draw(st.integers(0, 1)),
        head_width=draw(st.integers(0, 2)),
    )
    return shape, masks


@PROPERTY
@given(blocks())
def test_brute_count(case: tuple[VitBlockShape, dict[str, np.ndarray]]) -> None:
    shape, masks = case
    tokens = [0] + [t + 1 for t in range(4) if masks["token"][t]]
    in_mlp = tokens if shape.tokens_in_mlp else list(range(5))
    heads = [h for h in range(3) if masks["head"][h]]
    passing = list(range(3)) if shape.dropped_heads else heads
    attention = mlp = 0
    for _ in tokens:
        for head in range(3):
            attention += 6 * 2 * (2 * (head in heads) + (head in passing))  # query, key, value
            attention += 2 * 6 * (head in passing)  # projection
            attention += sum(2 * 2 for _ in tokens) * (head in heads)  # scores, mix
    for _ in in_mlp:
        for unit in range(12):
            if shape.head_width == 2 and unit // 4 not in heads:
                continue
            mlp += 2 * len(heads) if shape.head_width == 1 else 6
            mlp += 6
    found = vit_block_macs(shape, **masks)
    wanted = attention * int(masks["layer"][0]) + mlp * int(masks["layer"][1])
    assert found.active == wanted + 7
    assert found.dense == 5 * 6 * 6 * 4 + 2 * 5 * 5 * 6 + 2 * 5 * 6 * 12


def test_nothing_given_keeps_everything() -> None:
    shape = VitBlockShape("b", 5, 6, 3, 12, masker=0)
    macs = vit_block_macs(shape)
    assert macs.active == macs.dense


def test_network() -> None:
    model = vit_model()
    shape = network_shape(laudc.export(model))
    tokens, dim, hidden = 10, 48, 144
    dense = 4 * tokens * dim * dim + 2 * tokens * tokens * dim + 2 * tokens * dim * hidden
    macs = network_macs(shape, {})
    assert [block.dense for block in macs.blocks] == [dense] * 3
    assert [block.masker for block in macs.blocks] == [9 * dim, 9 * dim + 5 * dim, 9 * dim + 5 * dim]
    assert macs.head == dim * 7
    # The T2T stem: kqv, random features (twice), their products with values and sums, projection and MLP.
    stem = sum(
        positions * (features * 36 + 2 * 12 * 6 + 2 * 6 * 12 + 6 + 3 * 12 * 12)
        for positions, features in ((144, 147), (36, 108))
    )
    assert macs.stem == stem + 9 * 108 * dim


def test_masks_by_name() -> None:
    values = {"blocks.1.mask_token": np.ones((2, 9)), "blocks.1.mask_layer": np.array([[0, 0], [1, 1]])}
    masks = masks_of_image(values, 0)
    assert isinstance(masks["blocks.1"], BlockMasks) and masks["blocks.1"].head is None
    macs = network_macs(network_shape(laudc.export(vit_model())), masks)
    assert macs.blocks[1].active == macs.blocks[1].masker
    assert macs.ideal_speedup > 1.1


@pytest.mark.parametrize("variant", ["head_values", "head_outputs", "token_attention_only"])
def test_variants_are_read_from_the_graph(variant: str) -> None:
    block = network_shape(laudc.export(vit_model(variant))).blocks[-1]
    assert isinstance(block, VitBlockShape)
    assert (block.dropped_heads, block.head_width, block.tokens_in_mlp) == {
        "head_values": (1, 0, False),
        "head_outputs": (0, 2, True),
        "token_attention_only": (0, 0, False),
    }[variant]
