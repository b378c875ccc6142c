"""Parts of MMDetection's transformers in the form that is exported, against definitions written as loops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from laudc.export import mmdetection_graph as graph
from tests.export.models import noise

SHAPES = [(5, 7), (3, 2)]
HEADS, CHANNELS, POINTS = 2, 3, 2


def sampled(image: Tensor, x: float, y: float) -> Tensor:
    """Bilinear sample of image (C, H, W) at shares x, y of its sides; zero outside."""
    height, width = image.shape[1:]
    column, row = x * width - 0.5, y * height - 0.5
    total = image.new_zeros(len(image))
    for i in (int(np.floor(row)), int(np.floor(row)) + 1):
        for j in (int(np.floor(column)), int(np.floor(column)) + 1):
            if 0 <= i < height and 0 <= j < width:
                total = total + image[:, i, j] * (1 - abs(row - i)) * (1 - abs(column - j))
    return total


def test_samples_of_all_levels_are_summed() -> None:
    positions, queries = sum(h * w for h, w in SHAPES), 4
    value = noise(1, positions, HEADS, CHANNELS)
    places = torch.rand((1, queries, HEADS, 2, POINTS, 2), generator=torch.Generator().manual_seed(1)) * 1.4 - 0.2
    weights = noise(1, queries, HEADS, 2, POINTS, seed=2)
    found = graph.sample_levels(value, SHAPES, places, weights)
    assert found.shape == (1, queries, HEADS * CHANNELS)
    for query in range(queries):
        for head in range(HEADS):
            total, start = torch.zeros(CHANNELS), 0
            for level, (h, w) in enumerate(SHAPES):
                image = value[0, start : start + h * w, head].T.reshape(CHANNELS, h, w)
                start += h * w
                for point in range(POINTS):
                    x, y = places[0, query, head, level, point].tolist()
                    total = total + weights[0, query, head, level, point] * sampled(image, x, y)
            ours = found[0, query, head * CHANNELS : (head + 1) * CHANNELS]
            torch.testing.assert_close(ours, total, atol=1e-5, rtol=1e-5)


class Attention(nn.Module):
    """The parts of mmcv's MultiScaleDeformableAttention."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        width = HEADS * CHANNELS
        self.num_heads, self.num_levels, self.num_points, self.batch_first = HEADS, 2, POINTS, batch_first
        self.value_proj, self.output_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.sampling_offsets = nn.Linear(width, HEADS * 2 * POINTS * 2)
        self.attention_weights = nn.Linear(width, HEADS * 2 * POINTS)
        self.dropout = nn.Identity()


@pytest.mark.parametrize("reference", [2, 4])
def test_attention_looks_around_its_reference_points(reference: int) -> None:
    torch.manual_seed(0)
    attention = Attention(batch_first=True)
    positions, queries, width = sum(h * w for h, w in SHAPES), 3, HEADS * CHANNELS
    query, value, place = noise(1, queries, width), noise(1, positions, width, seed=1), noise(1, queries, width, seed=2)
    points = torch.rand(1, queries, 2, reference)
    found = graph.deformable_attention(attention, SHAPES)(
        query, value=value, query_pos=place, reference_points=points, spatial_shapes=None, level_start_index=None
    )
    offsets = attention.sampling_offsets(query + place).view(1, queries, HEADS, 2, POINTS, 2)
    places = torch.empty_like(offsets)
    for level, (h, w) in enumerate(SHAPES):
        middle = points[:, :, level, :2][:, :, None, None]
        scale = torch.tensor([1 / w, 1 / h])
        if reference == 4:
            scale = points[:, :, level, 2:][:, :, None, None] * 0.5 / POINTS
        places[:, :, :, level] = middle + offsets[:, :, :, level] * scale
    weights = attention.attention_weights(query + place).view(1, queries, HEADS, -1).softmax(-1)
    values = attention.value_proj(value).view(1, positions, HEADS, CHANNELS)
    sums = graph.sample_levels(values, SHAPES, places, weights.view(1, queries, HEADS, 2, POINTS))
    torch.testing.assert_close(found, attention.output_proj(sums) + query)


def test_attention_with_queries_first() -> None:
    torch.manual_seed(0)
    attention = Attention(batch_first=True)
    positions, width = sum(h * w for h, w in SHAPES), HEADS * CHANNELS
    query, points = noise(2, positions, width), torch.rand(2, positions, 2, 2)
    wanted = graph.deformable_attention(attention, SHAPES)(query, reference_points=points)
    attention.batch_first = False
    found = graph.deformable_attention(attention, SHAPES)(query.transpose(0, 1), reference_points=points)
    torch.testing.assert_close(found.transpose(0, 1), wanted)


def some_boxes(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    middles, sides = torch.rand((count, 2), generator=generator), torch.rand((count, 2), generator=generator) * 0.6
    return graph.corners(torch.cat([middles, sides], 1)), torch.rand(count, generator=generator)


def kept_one_by_one(boxes: Tensor, scores: Tensor, overlap: float) -> list[int]:
    kept: list[int] = []
    for at in scores.argsort(descending=True).tolist():
        if scores[at] < 0:
            continue
        for other in kept:
            low, high = torch.maximum(boxes[at, :2], boxes[other, :2]), torch.minimum(boxes[at, 2:], boxes[other, 2:])
            shared = (high - low).clamp(min=0).prod()
            areas = (boxes[[at, other], 2:] - boxes[[at, other], :2]).prod(1).sum()
            if shared / (areas - shared) > overlap:
                break
        else:
            kept.append(at)
    return kept


def test_distinct_boxes_are_listed_to_a_fixed_length() -> None:
    boxes, scores = some_boxes(60)
    scores[::7] = -1
    wanted = kept_one_by_one(boxes, scores, 0.4)
    assert 5 < len(wanted) < 50
    found = graph.distinct(boxes, scores, 0.4, 50)
    assert found.tolist() == wanted + [60] * (50 - len(wanted))
    assert graph.distinct(boxes, scores, 0.4, 4).tolist() == wanted[:4]


@pytest.mark.parametrize("most", [4, 50])
def test_distinct_boxes_in_onnx(most: int) -> None:
    pytest.importorskip("onnxscript")
    import onnxruntime

    class Distinct(nn.Module):
        def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
            return graph.distinct(boxes, scores, 0.4, most)

    boxes, scores = some_boxes(60)
    scores[::7] = -1
    program = torch.onnx.export(
        Distinct(),
        (boxes, scores),
        dynamo=True,
        input_names=["boxes", "scores"],
        custom_translation_table=dict(graph.standard_operators()),
        verbose=False,
    )
    assert program is not None and {node.domain for node in program.model_proto.graph.node} == {""}
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for seed in range(5):
        boxes, scores = some_boxes(60, seed)
        (found,) = session.run(None, {"boxes": boxes.numpy(), "scores": scores.numpy()})
        np.testing.assert_array_equal(found, graph.distinct(boxes, scores, 0.4, most).numpy())


def ddq_parts(queries: int) -> Any:
    """What is used of a DDQ-DETR: a score is the first channel, a box the four after it."""

    def cut(first: int, last: int) -> Any:
        return lambda x: x[..., first:last]

    return SimpleNamespace(
        num_queries=queries,
        dqs_cfg={"iou_threshold": 0.5},
        cache_dict={},
        decoder=SimpleNamespace(num_layers=1),
        bbox_head=SimpleNamespace(cls_branches=[cut(0, 1), cut(0, 1)], reg_branches=[None, cut(1, 5)]),
        gen_encoder_output_proposals=lambda memory, mask, shapes: (memory, torch.zeros(1, memory.shape[1], 4)),
        query_map=lambda memory: memory + 1,
    )


def test_the_first_queries_are_distinct_and_filled_up_with_zeros() -> None:
    # Twice the same place, and another one.
    memory = torch.tensor([[[2.0, 0, 0, -2, -2], [3.0, 0, 0, -2, -2], [1.0, 3, 3, -3, -3]]])
    found = graph.first_queries(ddq_parts(4), memory, [(1, 3)])
    torch.testing.assert_close(found["query"][0], torch.cat([memory[0, [1, 2]] + 1, torch.zeros(2, 5)]))
    places = torch.cat([memory[0, [1, 2], 1:], torch.zeros(2, 4)])
    torch.testing.assert_close(found["reference_points"][0], places.sigmoid())
    assert graph.first_queries(ddq_parts(1), memory, [(1, 3)])["query"].shape == (1, 1, 5)


def test_queries_that_are_not_distinct_hear_only_those_that_are() -> None:
    boxes = torch.tensor([[[0.3, 0.3, 0.2, 0.2], [0.3, 0.31, 0.2, 0.2], [0.7, 0.7, 0.1, 0.1]]])
    query = torch.tensor([[[1.0], [2.0], [0.0]]])
    kept: list[Tensor] = []
    select = graph.distinct_queries(ddq_parts(3), kept)
    hidden = select(boxes, query, torch.zeros(2, 3, 3, dtype=torch.bool), 0)
    # The second is better than the first, which covers the same place.
    assert (~hidden).tolist() == [[[False, True, True], [True] * 3, [True] * 3]] * 2
    assert kept[0].tolist() == [False, True, True]
    # Now the third is better than the rest, and the first does not come back.
    hidden = select(boxes, torch.tensor([[[5.0], [0.0], [1.0]]]), hidden, 0)
    assert kept[1].tolist() == [False, True, True]
    # Where the first one stays, the library counts all.
    select(boxes, torch.tensor([[[5.0], [0.0], [1.0]]]), torch.zeros(2, 3, 3, dtype=torch.bool), 0)
    assert kept[2].tolist() == [True, True, True]


def test_the_best_pairs_of_query_and_class() -> None:
    logits = torch.tensor([[0.0, 3.0], [9.0, 9.0], [2.0, -1.0]])
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.5, 0.5, 1.0, 1.0], [0.1, 0.9, 0.4, 0.4]])
    kept = torch.tensor([True, False, True])
    found, scores, labels = graph.best_boxes(logits, boxes, kept, 5, (100, 200))
    assert labels[0, :4].tolist() == [1, 0, 0, 1]
    torch.testing.assert_close(scores[0, :4], torch.tensor([3.0, 2.0, 0.0, -1.0]).sigmoid())
    # Only four pairs are left.
    assert scores[0, 4] == 0
    torch.testing.assert_close(found[0, :2], torch.tensor([[80.0, 30, 120, 70], [0.0, 70, 60, 100]]))


def test_methods_are_replaced_for_a_while_only() -> None:
    module = nn.Identity()
    with pytest.raises(ZeroDivisionError), graph.replaced([(module, "forward", lambda x: x + 1)]):
        assert module(1) == 2
        1 / 0  # noqa: B018
    assert module(1) == 1 and "forward" not in vars(module)
