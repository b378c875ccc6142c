"""Parts of MMDetection's transformers, computed in the way that torch can export: sizes of maps are numbers and not
tensors, and what non-maximum suppression keeps has a fixed length.

Everything here works on the library's own modules and weights. The library's forward functions are what the tests and
`laudc verify` compare with. Torch is imported with this module, so only `mmdetection_heads` imports it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from laudnet.boxes import suppress
from torch import Tensor, nn

#: (height, width) of every level, in the order of their positions.
Shapes = Sequence[tuple[int, int]]

# What may not be selected scores below the threshold; sigmoids are not negative.
_DROPPED = -1.0
_LEAST_SCORE = -0.5


@contextlib.contextmanager
def replaced(replacements: Sequence[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """Give single objects other methods for a while: (object, name of the method, function)."""
    try:
        for target, name, function in replacements:
            setattr(target, name, function)
        yield
    finally:
        for target, name, _ in replacements:
            target.__dict__.pop(name, None)


def sample_levels(value: Tensor, shapes: Shapes, places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of bilinear samples: the core of multi-scale deformable attention (Deformable DETR).

    Args:
        value: (B, positions of all levels, heads, channels).
        places: (B, queries, heads, levels, points, 2): x, y in shares of the level's sides; zero is read outside.
        weights: (B, queries, heads, levels, points).

    Returns:
        (B, queries, heads·channels).
    """
    batch, _, heads, channels = value.shape
    queries, points = places.shape[1], places.shape[4]
    shares = weights.permute(3, 0, 2, 1, 4).reshape(-1, batch * heads, 1, queries, points)
    sums = None
    for level, part in enumerate(torch.split(value, [height * width for height, width in shapes], 1)):
        grid = (2 * places[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        image = part.permute(0, 2, 3, 1).reshape(batch * heads, channels, *shapes[level])
        samples = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        # Level by level: on large images the samples of all levels together would take gigabytes.
        found = (samples * shares[level]).sum(-1)
        sums = found if sums is None else sums + found
    assert sums is not None
    return sums.view(batch, heads * channels, queries).transpose(1, 2)


def deformable_attention(attention: Any, shapes: Shapes) -> Callable[..., Tensor]:
    """The forward function of one of mmcv's `MultiScaleDeformableAttention` for levels of `shapes`."""

    def forward(
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        **known: Any,
    ) -> Tensor:
        assert key_padding_mask is None and reference_points is not None
        value = query if value is None else value
        identity = query if identity is None else identity
        query = query if query_pos is None else query + query_pos
        if not attention.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        heads, levels, points = attention.num_heads, attention.num_levels, attention.num_points
        batch, queries, _ = query.shape
        values = attention.value_proj(value).view(batch, value.shape[1], heads, -1)
        offsets = attention.sampling_offsets(query).view(batch, queries, heads, levels, points, 2)
        weights = attention.attention_weights(query).view(batch, queries, heads, levels * points).softmax(-1)
        middles = reference_points[:, :, None, :, None]
        if reference_points.shape[-1] == 2:
            sides = query.new_tensor([[width, height] for height, width in shapes])
            places = middles + offsets / sides[:, None]
        else:
            places = middles[..., :2] + offsets / points * middles[..., 2:] * 0.5
        sums = sample_levels(values, shapes, places, weights.view(batch, queries, heads, levels, points))
        result = attention.output_proj(sums)
        return attention.dropout(result if attention.batch_first else result.transpose(0, 1)) + identity

    return forward


def pixel_decoder(decoder: Any) -> Callable[[Sequence[Tensor]], tuple[Tensor, list[Tensor]]]:
    """The forward function of a `MSDeformAttnPixelDecoder`: maps, finest first, to the mask features and the maps that
    the transformer decoder looks at, coarsest first.
    """

    def forward(feats: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        coarse = list(range(decoder.num_input_levels))[: -decoder.num_encoder_levels - 1 : -1]
        shapes = [(feats[at].shape[2], feats[at].shape[3]) for at in coarse]
        inputs, positions, points = [], [], []
        for i, (at, (height, width)) in enumerate(zip(coarse, shapes, strict=True)):
            inputs.append(decoder.input_convs[i](feats[at]).flatten(2).permute(0, 2, 1))
            unpadded = feats[at].new_zeros((len(feats[at]), height, width), dtype=torch.bool)
            # The library spells it so.
            sines = decoder.postional_encoding(unpadded) + decoder.level_encoding.weight[i].view(1, -1, 1, 1)
            positions.append(sines.flatten(2).permute(0, 2, 1))
            priors = decoder.point_generator.single_level_grid_priors((height, width), at, device=feats[at].device)
            points.append(priors / (priors.new_tensor([[width, height]]) * decoder.strides[at]))
        batch = len(inputs[0])
        references = torch.cat(points)[None, :, None].repeat(batch, 1, len(coarse), 1)
        memory = decoder.encoder(
            query=torch.cat(inputs, 1),
            query_pos=torch.cat(positions, 1),
            key_padding_mask=None,
            spatial_shapes=shapes,
            reference_points=references,
            level_start_index=None,
            valid_ratios=references.new_ones((batch, len(coarse), 2)),
        )
        parts = torch.split(memory.permute(0, 2, 1), [height * width for height, width in shapes], -1)
        outs = [part.reshape(batch, -1, *shape) for part, shape in zip(parts, shapes, strict=True)]
        for at in range(decoder.num_input_levels - decoder.num_encoder_levels - 1, -1, -1):
            lateral = decoder.lateral_convs[at](feats[at])
            larger = F.interpolate(outs[-1], size=lateral.shape[-2:], mode="bilinear", align_corners=False)
            outs.append(decoder.output_convs[at](lateral + larger))
        return decoder.mask_feature(outs[-1]), outs[: decoder.num_outs]

    return forward


@torch.library.custom_op("laudc::distinct", mutates_args=())
def distinct(boxes: Tensor, scores: Tensor, overlap: float, most: int) -> Tensor:
    """Non-maximum suppression with a result of fixed length.

    Args:
        boxes: (n, 4) corners; scores: (n,), negative for boxes that take no part.
        overlap: boxes that share more with a better one are dropped.

    Returns:
        (most,) int64: indices of what stays, best first, then n for every place that is left.
    """
    taking_part = torch.nonzero(scores >= 0).flatten()
    kept = taking_part[suppress(boxes[taking_part], scores[taking_part], overlap)][:most]
    return torch.cat([kept, kept.new_full((most - len(kept),), len(boxes))])


@distinct.register_fake
def _distinct_shape(boxes: Tensor, scores: Tensor, overlap: float, most: int) -> Tensor:
    return boxes.new_empty((most,), dtype=torch.int64)


def standard_operators() -> Mapping[Any, Callable[..., Any]]:
    """How torch's exporter writes `distinct`; needs onnxscript."""
    from onnxscript import opset18 as op

    def in_onnx(boxes: Any, scores: Any, overlap: float, most: int) -> Any:
        limits = (op.Constant(value_ints=[most]), *(op.Constant(value_floats=[x]) for x in (overlap, _LEAST_SCORE)))
        rows = op.Unsqueeze(boxes, op.Constant(value_ints=[0]))
        found = op.NonMaxSuppression(rows, op.Unsqueeze(scores, op.Constant(value_ints=[0, 1])), *limits)
        kept = op.Gather(found, op.Constant(value_int=2), axis=1)
        nothing = op.Expand(op.Shape(scores), op.Constant(value_ints=[most]))
        padded = op.Concat(kept, nothing, axis=0)
        return op.Slice(padded, op.Constant(value_ints=[0]), op.Constant(value_ints=[most]))

    return {torch.ops.laudc.distinct.default: in_onnx}


def corners(boxes: Tensor) -> Tensor:
    """(..., 4) middle and sides to corners x1, y1, x2, y2."""
    middles, sides = boxes[..., :2], boxes[..., 2:]
    return torch.cat([middles - 0.5 * sides, middles + 0.5 * sides], -1)


def apart(boxes: Tensor, kept: Tensor) -> Tensor:
    """Boxes moved as mmcv's `batched_nms` does between classes, although there is just one: the same rounding decides
    where overlaps are close to the threshold.
    """
    return boxes + (boxes.masked_fill(~kept[:, None], -torch.inf).max() + 1)


def flattened(detector: Any, levels: Sequence[Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What encoder and decoder of a Deformable DETR or one of its descendants take: `pre_transformer` of the library
    for images without padding.

    Args:
        levels: maps (B, C, H, W), finest first.
    """
    positions = []
    for level, mark in zip(levels, detector.level_embed, strict=True):
        sines = detector.positional_encoding(None, input=level)
        positions.append(sines.flatten(2).permute(0, 2, 1) + mark)
    common = {
        "spatial_shapes": [(level.shape[2], level.shape[3]) for level in levels],
        "level_start_index": None,
        "valid_ratios": levels[0].new_ones(len(levels[0]), len(levels), 2),
    }
    rows = torch.cat([level.flatten(2).permute(0, 2, 1) for level in levels], 1)
    encoding = {"feat": rows, "feat_mask": None, "feat_pos": torch.cat(positions, 1), **common}
    return encoding, {"memory_mask": None, **common}


def first_queries(detector: Any, memory: Tensor, shapes: Shapes) -> dict[str, Any]:
    """The queries with which DDQ-DETR's decoder begins, for one image: `pre_decoder` of the library.

    Args:
        memory: (1, positions, channels).
    """
    found, proposals = detector.gen_encoder_output_proposals(memory, None, shapes)
    last = detector.decoder.num_layers
    places = (detector.bbox_head.reg_branches[last](found) + proposals)[0]
    scores = detector.bbox_head.cls_branches[last](found)[0].max(-1).values.sigmoid()
    boxes = corners(places.sigmoid())
    everything = torch.ones_like(scores, dtype=torch.bool)
    overlap, most = float(detector.dqs_cfg["iou_threshold"]), detector.num_queries
    chosen = distinct(apart(boxes, everything), scores, overlap, most)
    # The library fills up with zeros where too few stay.
    query = _with_zeros(detector.query_map(memory)[0])[chosen][None]
    references = _with_zeros(places)[chosen][None].sigmoid()
    detector.cache_dict["dis_query_info"] = [0, most]
    return {"query": query, "memory": memory, "reference_points": references, "dn_mask": None}


def _with_zeros(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])])


def distinct_queries(detector: Any, kept_at: list[Tensor]) -> Callable[..., Tensor]:
    """`select_distinct_queries` of DDQ-DETR's decoder for one image. Appends to `kept_at` which queries (queries,) the
    library then takes for distinct.
    """
    overlap = float(detector.dqs_cfg["iou_threshold"])

    def select(reference_points: Tensor, query: Tensor, self_attn_mask: Tensor, layer_index: int) -> Tensor:
        branch = detector.bbox_head.cls_branches[layer_index]
        scores = branch(query).sigmoid().max(-1).values[0]
        boxes = corners(reference_points)[0]
        before = ~self_attn_mask[0, 0]
        moved = apart(boxes, before)
        chosen = distinct(moved, scores.masked_fill(~before, _DROPPED), overlap, len(boxes))
        kept = torch.zeros_like(_with_zeros(scores[:, None])[:, 0], dtype=torch.bool)
        kept = kept.scatter(0, chosen, torch.ones_like(chosen, dtype=torch.bool))[:-1]
        hidden = ~(kept[:, None] | kept[None])
        # The library reads a mask's first row: if the first query stays, all count.
        kept_at.append(~hidden[0])
        return hidden[None].repeat(self_attn_mask.shape[0], 1, 1)

    return select


def best_boxes(
    logits: Tensor, boxes: Tensor, kept: Tensor, most: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of query and class, as `DDQDETRHead.predict` finds them, for one image.

    Args:
        logits: (queries, classes); boxes: (queries, 4), middle and sides as shares of the image's sides; kept:
            (queries,) bool.
        size: (height, width) of the image in pixels.

    Returns:
        Boxes (1, most, 4) in pixels, scores (1, most), 0 where nothing is left, labels (1, most) int64.
    """
    scores = logits.sigmoid().masked_fill(~kept[:, None], _DROPPED)
    best, at = scores.flatten().topk(most)
    found = corners(boxes[at // logits.shape[1]]) * boxes.new_tensor([size[1], size[0]] * 2)
    limits = boxes.new_tensor([size[1], size[0]] * 2)
    return torch.minimum(found.clamp(min=0), limits)[None], best.clamp(min=0)[None], (at % logits.shape[1])[None]


class DdqGraph(nn.Module):
    """What follows the neck of a `DDQDETR`: the neck's maps of one image to boxes, scores and labels.

    Args:
        detector: the library's. neck: what comes before, if anything. attentions: its deformable attentions.
        most: objects found. size: (height, width) of the image, none of which is padding.
    """

    def __init__(
        self, detector: Any, neck: Any, attentions: Sequence[Any], most: int, size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.detector, self.neck = detector, neck
        self._attentions, self._most, self._size = tuple(attentions), most, size

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps, finest first."""
        levels = maps if self.neck is None else self.neck(maps)
        shapes = [(level.shape[2], level.shape[3]) for level in levels]
        kept: list[Tensor] = []
        new = [(one, "forward", deformable_attention(one, shapes)) for one in self._attentions]
        decoder = self.detector.decoder
        new.append((decoder, "select_distinct_queries", distinct_queries(self.detector, kept)))
        with replaced(new):
            encoding, decoding = flattened(self.detector, levels)
            memory = self.detector.forward_encoder(**encoding)["memory"]
            found = self.detector.forward_decoder(**decoding, **first_queries(self.detector, memory, shapes))
        logits, boxes = self.detector.bbox_head(**found)
        return best_boxes(logits[-1, 0], boxes[-1, 0], kept[-1], self._most, self._size)


class Mask2FormerGraph(nn.Module):
    """A `Mask2FormerHead`: the maps of one image to class and mask logits of the last layer.

    Args:
        head: the library's. attentions: its deformable attentions. neck: what comes before, if anything.
    """

    def __init__(self, head: Any, neck: Any, attentions: Sequence[Any]) -> None:
        super().__init__()
        self.head, self.neck = head, neck
        self._attentions = tuple(attentions)

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps, finest first."""
        levels = maps if self.neck is None else self.neck(maps)
        decoder = self.head.pixel_decoder
        coarse = list(reversed(levels))[: decoder.num_encoder_levels]
        shapes = [(level.shape[2], level.shape[3]) for level in coarse]
        new = [(one, "forward", deformable_attention(one, shapes)) for one in self._attentions]
        with replaced([*new, (decoder, "forward", pixel_decoder(decoder))]):
            classes, masks = self.head(levels, None)
        return classes[-1], masks[-1]
