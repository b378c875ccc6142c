"""Detectors: backbone, neck and head as standard ONNX around the dynamic blocks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from laudc.export.builder import GraphBuilder, Value
from laudc.export.emitters import conv_out, emit, parameters, resnet_stem, window
from laudc.export.fold import to_array
from laudc.ops.numeric import nearest_index

#: Outputs of a RetinaNet: per anchor the logits of its classes and the deltas of its box.
RETINA_OUTPUTS = ("cls_logits", "box_deltas")


def emit_detector(graph: GraphBuilder, model: Any, image: Value) -> list[Value]:
    """Add the nodes of a `laudnet.LaudDetector`; returns stage maps, neck maps, or the head's outputs."""
    stages = model.last_of_stages()
    maps = []
    x = resnet_stem(graph, model.backbone, "backbone.", image)
    for name, block in model.blocks():
        x = emit(graph, block, name, x)
        if name in stages:
            maps.append(x)
    first = 2 + model.config.stages[0]
    if model.neck is None:
        return [_named(graph, x, f"stage{number}") for number, x in enumerate(maps, start=first - 1)]
    necks = {"fpn": _pyramid, "channel_mapper": _mapper}
    levels = necks[model.config.neck](graph, model.neck, maps)
    if model.rpn_head is not None:
        from laudc.export.two_stage import emit_two_stage

        height, width = image.shape[2:]
        assert height is not None and width is not None
        return emit_two_stage(graph, model, levels, (height, width))
    if model.bbox_head is None:
        return [_named(graph, x, f"p{number}") for number, x in enumerate(levels, start=first)]
    return _retina(graph, model.bbox_head, levels)


def _named(graph: GraphBuilder, x: Value, name: str) -> Value:
    return graph.standard("Identity", f"{name}/Identity", [x], x.shape, output=name)


def _conv(graph: GraphBuilder, conv: Any, path: str, x: Value, weights: tuple[Value, Value]) -> Value:
    return graph.standard("Conv", path, [x, *weights], conv_out(x, conv, conv.out_channels), window(conv))


def _module(graph: GraphBuilder, module: Any, path: str, x: Value) -> Value:
    """A ConvModule with weights of its own."""
    if module.gn is None:
        return _conv(graph, module.conv, f"{path}.conv", x, parameters(graph, module.conv, f"{path}.conv"))
    weight = graph.constant(f"{path}.conv.weight", to_array(module.conv.weight))
    shape = conv_out(x, module.conv, module.conv.out_channels)
    x = graph.standard("Conv", f"{path}.conv", [x, weight], shape, window(module.conv))
    return _group_norm(graph, module.gn, f"{path}.gn", x)


def _group_norm(graph: GraphBuilder, norm: Any, path: str, x: Value) -> Value:
    """Group normalisation as instance normalisation of the groups: every opset has that."""
    channels, height, width = x.shape[1:]
    groups = norm.num_groups
    assert channels is not None and height is not None and width is not None
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    units = (graph.constant(f"{path}.ones", ones), graph.constant(f"{path}.zeros", zeros))
    grouped_to = graph.constant(f"{path}.grouped", np.array([0, groups, -1], np.int64))
    back_to = graph.constant(f"{path}.back", np.array([0, channels, height, width], np.int64))
    rows = (x.shape[0], groups, channels // groups * height * width)
    y = graph.standard("Reshape", f"{path}.group", [x, grouped_to], rows)
    y = graph.standard("InstanceNormalization", path, [y, *units], rows, {"epsilon": float(norm.eps)})
    y = graph.standard("Reshape", f"{path}.ungroup", [y, back_to], x.shape)
    scale = graph.constant(f"{path}.weight", to_array(norm.weight).reshape(-1, 1, 1))
    shift = graph.constant(f"{path}.bias", to_array(norm.bias).reshape(-1, 1, 1))
    y = graph.standard("Mul", f"{path}.scale", [y, scale], x.shape)
    return graph.standard("Add", f"{path}.shift", [y, shift], x.shape)


def _pyramid(graph: GraphBuilder, neck: Any, maps: list[Value]) -> list[Value]:
    levels = [
        _module(graph, module, f"neck.lateral_convs.{i}", x)
        for i, (module, x) in enumerate(zip(neck.lateral_convs, maps, strict=True))
    ]
    for i in range(len(levels) - 1, 0, -1):
        larger = _stretched(graph, levels[i], levels[i - 1].shape, f"neck.upsample.{i}")
        levels[i - 1] = graph.standard("Add", f"neck.merge.{i - 1}", [levels[i - 1], larger], larger.shape)
    outputs = [_module(graph, neck.fpn_convs[i], f"neck.fpn_convs.{i}", x) for i, x in enumerate(levels)]
    for extra in range(neck.extra):
        number = len(maps) + extra
        if neck.extra_levels == "pool":
            outputs.append(_every_second(graph, outputs[-1], f"neck.pool.{number}"))
            continue
        source = maps[-1] if extra == 0 and neck.extra_levels == "on_input" else outputs[-1]
        if extra and neck.extra_relu:
            source = graph.standard("Relu", f"neck.fpn_convs.{number}.relu", [source], source.shape)
        outputs.append(_module(graph, neck.fpn_convs[number], f"neck.fpn_convs.{number}", source))
    return outputs


def _stretched(graph: GraphBuilder, x: Value, like: tuple[int | None, ...], path: str) -> Value:
    """Nearest interpolation to the height and width of `like`, by gathering rows and columns as PyTorch does."""
    for axis, name in ((2, "rows"), (3, "columns")):
        cells, size = x.shape[axis], like[axis]
        assert cells is not None and size is not None
        index = graph.constant(f"{path}.{name}_index", nearest_index(cells, size))
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        x = graph.standard("Gather", f"{path}.{name}", [x, index], shape, {"axis": axis})
    return x


def _every_second(graph: GraphBuilder, x: Value, path: str) -> Value:
    sides = [None if side is None else (side - 1) // 2 + 1 for side in x.shape[2:]]
    return graph.standard("MaxPool", path, [x], (*x.shape[:2], *sides), {"kernel_shape": [1, 1], "strides": [2, 2]})


def _mapper(graph: GraphBuilder, neck: Any, maps: list[Value]) -> list[Value]:
    outputs = [
        _module(graph, module, f"neck.convs.{i}", x) for i, (module, x) in enumerate(zip(neck.convs, maps, strict=True))
    ]
    for i, module in enumerate(neck.extra_convs):
        outputs.append(_module(graph, module, f"neck.extra_convs.{i}", maps[-1] if i == 0 else outputs[-1]))
    return outputs


def _retina(graph: GraphBuilder, head: Any, levels: list[Value]) -> list[Value]:
    """Both branches over all levels, which share their weights."""
    outputs = []
    for name, convs, last, values in (
        (RETINA_OUTPUTS[0], "cls_convs", "retina_cls", head.classes),
        (RETINA_OUTPUTS[1], "reg_convs", "retina_reg", 4),
    ):
        modules = [(f"bbox_head.{convs}.{i}.conv", module.conv) for i, module in enumerate(getattr(head, convs))]
        modules.append((f"bbox_head.{last}", getattr(head, last)))
        weights = [parameters(graph, conv, path) for path, conv in modules]
        to = graph.constant(f"{name}.shape", np.array([0, -1, values], np.int64))
        parts = []
        for number, x in enumerate(levels):
            for (path, conv), pair in zip(modules, weights, strict=True):
                x = _conv(graph, conv, f"{path}.level{number}", x, pair)
                if conv is not modules[-1][1]:
                    x = graph.standard("Relu", f"{path}.level{number}.relu", [x], x.shape)
            parts.append(_rows(graph, x, to, values, f"{name}.level{number}"))
        total = sum(part.shape[1] or 0 for part in parts)
        shape = (parts[0].shape[0], total, values)
        outputs.append(graph.standard("Concat", f"{name}/Concat", parts, shape, {"axis": 1}, output=name))
    return outputs


def _rows(graph: GraphBuilder, x: Value, to: Value, values: int, path: str) -> Value:
    """(N, A·values, H, W) → (N, H·W·A, values)."""
    batch, channels, height, width = x.shape
    assert channels is not None and height is not None and width is not None
    x = graph.standard("Transpose", f"{path}.last", [x], (batch, height, width, channels), {"perm": [0, 2, 3, 1]})
    rows = math.prod((height, width, channels)) // values
    return graph.standard("Reshape", f"{path}.rows", [x, to], (batch, rows, values))
