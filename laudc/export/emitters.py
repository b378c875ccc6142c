"""One emitter per module class: what each layer of a laudnet model becomes in the graph.

Emitters are found by the qualified name of the class, so that neither torch nor laudnet is imported here and
a subclass with another forward pass is not taken for its parent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from laudc.errors import UserError
from laudc.export.builder import GraphBuilder, Value
from laudc.export.fold import fold_batch_norm, to_array
from laudc.ops import Geometry, names
from laudc.ops.numeric import pool_matrix
from laudc.ops.regnet_block import SE_POOL

Emitter = Callable[[GraphBuilder, Any, str, Value], Value]
_EMITTERS: dict[str, Emitter] = {}


def emits(qualified_name: str) -> Callable[[Emitter], Emitter]:
    """Register the decorated function as the emitter of a class."""

    def register(emitter: Emitter) -> Emitter:
        _EMITTERS[qualified_name] = emitter
        return emitter

    return register


def emit(graph: GraphBuilder, module: Any, path: str, x: Value) -> Value:
    """Add the nodes of `module`, which is called `path` in the model, and return its output.

    Raises:
        UserError: there is no emitter for the class of the module.
    """
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    emitter = _EMITTERS.get(kind)
    if emitter is None:
        place = f"module {path!r}" if path else "the model"
        raise UserError(
            f"{place} cannot be exported",
            f"there is no rule for the class {kind}",
            "Export a model made of laudnet's own classes",
        )
    return emitter(graph, module, path, x)


def conv_out(x: Value, conv: Any, channels: int) -> tuple[int | None, ...]:
    """Shape of what a convolution or pooling makes of `x`."""
    sizes = []
    for axis in (0, 1):
        (kernel, stride, padding, dilation) = (
            _pair(value)[axis] for value in (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        )
        size = x.shape[2 + axis]
        assert size is not None
        sizes.append((size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
    return (x.shape[0], channels, *sizes)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)  # type: ignore[return-value]


def window(layer: Any) -> dict[str, list[int]]:
    """Attributes that Conv and MaxPool share."""
    return {
        "kernel_shape": list(_pair(layer.kernel_size)),
        "strides": list(_pair(layer.stride)),
        "pads": list(_pair(layer.padding)) * 2,
        "dilations": list(_pair(layer.dilation)),
    }


def _folded(graph: GraphBuilder, conv: Any, norm: Any, path: str) -> tuple[Value, Value]:
    """Initializers of a convolution with its normalisation folded in, under the convolution's name."""
    weight, bias = fold_batch_norm(conv, norm)
    return graph.constant(f"{path}.weight", weight), graph.constant(f"{path}.bias", bias)


def parameters(graph: GraphBuilder, layer: Any, path: str) -> tuple[Value, Value]:
    """Initializers of a layer's weight and bias."""
    return (
        graph.constant(f"{path}.weight", to_array(layer.weight)),
        graph.constant(f"{path}.bias", to_array(layer.bias)),
    )


def conv_norm(graph: GraphBuilder, conv: Any, norm: Any, path: str, x: Value) -> Value:
    """A convolution with its normalisation folded in."""
    inputs = (x, *_folded(graph, conv, norm, path))
    shape = conv_out(x, conv, conv.out_channels)
    return graph.standard("Conv", path, inputs, shape, {"group": conv.groups, **window(conv)})


@emits("torch.nn.modules.activation.ReLU")
def _relu(graph: GraphBuilder, module: Any, path: str, x: Value) -> Value:
    """A convolution with its normalisation folded in."""
    return graph.standard("Relu", path, [x], x.shape)


@emits("torch.nn.modules.pooling.MaxPool2d")
def _max_pool(graph: GraphBuilder, module: Any, path: str, x: Value) -> Value:
    channels = x.shape[1]
    assert channels is not None
    return graph.standard("MaxPool", path, [x], conv_out(x, module, channels), window(module))


def emit_network(graph: GraphBuilder, model: Any, image: Value) -> list[Value]:
    """Add the nodes of a whole network and return its outputs.

    Raises:
        UserError: as `emit`.
    """
    if f"{type(model).__module__}.{type(model).__qualname__}" == "laudnet.detector.LaudDetector":
        from laudc.export.detector import emit_detector

        return emit_detector(graph, model, image)
    return [emit(graph, model, "", image)]


def resnet_stem(graph: GraphBuilder, trunk: Any, prefix: str, x: Value) -> Value:
    """The layers between the image and a ResNet's first block."""
    x = conv_norm(graph, trunk.conv1, trunk.bn1, f"{prefix}conv1", x)
    x = emit(graph, trunk.relu, f"{prefix}relu", x)
    return emit(graph, trunk.maxpool, f"{prefix}maxpool", x)


@emits("laudnet.resnet.LaudResNet")
def _resnet(graph: GraphBuilder, model: Any, path: str, x: Value) -> Value:
    x = resnet_stem(graph, model, "", x)
    for name, block in model.blocks():
        x = emit(graph, block, name, x)
    return _classifier(graph, model.fc, x)


def _classifier(graph: GraphBuilder, fc: Any, x: Value) -> Value:
    """Global mean and linear layer: the graph's logits."""
    channels = x.shape[1]
    pooled = graph.standard("GlobalAveragePool", "avgpool", [x], (x.shape[0], channels, 1, 1))
    flat = graph.standard("Flatten", "flatten", [pooled], (x.shape[0], channels), {"axis": 1})
    inputs = (flat, *parameters(graph, fc, "fc"))
    shape = (x.shape[0], fc.out_features)
    return graph.standard("Gemm", "fc", inputs, shape, {"transB": 1}, output=names.OUTPUT)


@emits("laudnet.resnet.Bottleneck")
def _bottleneck(graph: GraphBuilder, block: Any, path: str, x: Value) -> Value:
    masks = _masks(graph, block, path, x)
    residual = _projected(graph, block.downsample, f"{path}.downsample", x)
    pairs = ((block.conv1, block.bn1), (block.conv2, block.bn2), (block.conv3, block.bn3))
    weights: list[Value] = []
    for number, (conv, norm) in enumerate(pairs, start=1):
        weights += _folded(graph, conv, norm, f"{path}.conv{number}")
    return graph.semantic(
        _block_op("Bottleneck", frozenset(masks), path),
        path,
        (x, residual, *masks.values(), *weights),
        _geometry(block.conv2, f"{path}.conv2").attributes(),
    )


def _masks(graph: GraphBuilder, block: Any, path: str, x: Value) -> dict[str, Value]:
    """The masks of a block by kind, in the order in which the block ops take them."""
    maskers = dict(zip(("channel", "spatial"), block.deciders(), strict=True))
    return {
        kind: emit(graph, masker, names.masker_node(path, kind), x)
        for kind, masker in maskers.items()
        if masker is not None
    }


def _projected(graph: GraphBuilder, projection: Any, path: str, x: Value) -> Value:
    """The residual of a block: its input, or what the layers (convolution, norm) make of it."""
    if projection is None:
        return x
    conv, norm = projection
    return conv_norm(graph, conv, norm, f"{path}.0", x)


@emits("laudnet.regnet.LaudRegNet")
def _regnet(graph: GraphBuilder, model: Any, path: str, x: Value) -> Value:
    conv, norm, relu = model.stem
    x = emit(graph, relu, "stem.2", conv_norm(graph, conv, norm, "stem.0", x))
    for name, block in model.blocks():
        x = emit(graph, block, name, x)
    return _classifier(graph, model.fc, x)


@emits("laudnet.regnet.RegNetBlock")
def _regnet_block(graph: GraphBuilder, block: Any, path: str, x: Value) -> Value:
    masks = _masks(graph, block, path, x)
    residual = _projected(graph, block.proj, f"{path}.proj", x)
    branch = block.f
    weights = [
        *_folded(graph, branch.a[0], branch.a[1], f"{path}.f.a.0"),
        *_folded(graph, branch.b[0], branch.b[1], f"{path}.f.b.0"),
        *parameters(graph, branch.se.fc1, f"{path}.f.se.fc1"),
        *parameters(graph, branch.se.fc2, f"{path}.f.se.fc2"),
        *_folded(graph, branch.c[0], branch.c[1], f"{path}.f.c.0"),
    ]
    attributes: dict[str, Any] = _geometry(branch.b[0], f"{path}.f.b").attributes()
    if "spatial" in masks:
        attributes[SE_POOL] = int(block.se_pool == "active")
    op = _block_op("RegNetBlock", frozenset(masks), path)
    return graph.semantic(op, path, (x, residual, *masks.values(), *weights), attributes)


def _block_op(block: str, kinds: frozenset[str], path: str) -> str:
    """Name of the op for a block of a family that has these kinds of masks."""
    prefixes = {
        frozenset({"channel"}): "Channel",
        frozenset({"spatial"}): "Spatial",
        frozenset({"channel", "spatial"}): "Dynamic",
    }
    if kinds not in prefixes:
        raise UserError(
            f"block {path} cannot be exported",
            "it has no masker, so nothing in it is dynamic",
            "Export a LAUDNet model",
        )
    return prefixes[kinds] + block


def _geometry(conv: Any, path: str) -> Geometry:
    (stride, stride_w), (dilation, dilation_w) = _pair(conv.stride), _pair(conv.dilation)
    square = (stride, dilation, (dilation, dilation), (3, 3)) == (
        stride_w,
        dilation_w,
        _pair(conv.padding),
        _pair(conv.kernel_size),
    )
    if not square or conv.padding_mode != "zeros":
        raise UserError(
            f"{path} cannot be exported",
            "the ops know 3x3 convolutions with equal strides and zero padding as wide as the dilation only",
            "Export a model made of laudnet's own classes",
        )
    return Geometry(stride, conv.groups, dilation)


@emits("laudnet.maskers.SpatialMasker")
def _spatial_masker(graph: GraphBuilder, masker: Any, path: str, x: Value) -> Value:
    height, width = x.shape[2:]
    assert height is not None and width is not None
    cells = (masker.mask_size, masker.mask_size) if masker.mask_size < height else (height, width)
    rows = graph.constant(f"{path}.pool_rows", pool_matrix(height, cells[0]))
    columns = graph.constant(f"{path}.pool_cols", pool_matrix(width, cells[1]).T)
    inputs = (x, rows, columns, *parameters(graph, masker.conv, f"{path}.conv"))
    return graph.semantic("SpatialMasker", path, inputs, output=_mask_name(path))


@emits("laudnet.maskers.LinearChannelMasker")
def _linear_masker(graph: GraphBuilder, masker: Any, path: str, x: Value) -> Value:
    inputs = (x, *parameters(graph, masker.conv, f"{path}.conv"))
    return graph.semantic("ChannelMaskerLinear", path, inputs, output=_mask_name(path))


@emits("laudnet.maskers.MlpChannelMasker")
def _mlp_masker(graph: GraphBuilder, masker: Any, path: str, x: Value) -> Value:
    first = parameters(graph, masker.conv[0], f"{path}.conv.0")
    last = parameters(graph, masker.conv[2], f"{path}.conv.2")
    return graph.semantic("ChannelMaskerMlp", path, (x, *first, *last), output=_mask_name(path))


@emits("laudnet.maskers.ConvChannelMasker")
def _conv_masker(graph: GraphBuilder, masker: Any, path: str, x: Value) -> Value:
    first = _folded(graph, masker.conv[0], masker.conv[1], f"{path}.conv.0")
    last = parameters(graph, masker.linear, f"{path}.linear")
    return graph.semantic("ChannelMaskerConv", path, (x, *first, *last), output=_mask_name(path))


def _mask_name(masker_path: str) -> str:
    """`layer1.0.masker_spatial` → `layer1.0.mask_spatial`."""
    block, _, last = masker_path.rpartition(".")
    return names.mask_value(block, last.removeprefix("masker_"))
