"""Heads of other libraries behind our backbone: exported by torch with standard ops and spliced into the graph."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laudc.errors import UserError

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

_PREFIX = "head."


@dataclass(frozen=True)
class Suppression:
    """One choice of distinct boxes that a library made or was given: boxes (n, 4), corners as they are compared, scores
    (n,), kept (k,) positions, best first, and whether that is `own`, what the library chooses itself. Boxes that share
    more than `overlap` with a better one are dropped; `most` stay.
    """

    boxes: Tensor
    scores: Tensor
    kept: Tensor
    own: bool
    overlap: float
    most: int


#: Maps, and positions that stay of each list of boxes with the number of boxes, to outputs and what was compared.
Leading = Callable[[Sequence[Any], Sequence[tuple[int, Any]]], tuple[tuple[Any, ...], list[Suppression]]]


@dataclass(frozen=True)
class Head:
    """What follows the backbone's stage maps.

    module: a torch module in eval mode that is called with the maps, finest first; outputs: names of the tensors that
    it returns; channels: of the maps that it takes, the last ones of the backbone.
    traceable: the same computation in a form that torch can export; the module itself where that is None.
    operators: makes the exporter's table of what our own torch operators become.
    classes: how many there are, where the outputs do not tell. about: what it is, and of which library.
    led: the same computation with given choices of distinct boxes, where the library makes some; raises UserError if
    they are choices among other boxes.
    """

    module: Any
    outputs: tuple[str, ...]
    channels: tuple[int, ...]
    traceable: Any = None
    operators: Callable[[], Mapping[Any, Callable[..., Any]]] | None = None
    classes: int | None = None
    about: str = ""
    led: Leading | None = None


def with_head(model: onnx.ModelProto, head: Head) -> onnx.ModelProto:
    """The portable model with `head` in place of its outputs, which are maps of one image.

    Raises:
        UserError: the head takes other maps, cannot be exported, or the exporter is not installed.
    """
    from laudc.ops import known_shapes, model_opset

    shapes = known_shapes(model)
    maps = [output.name for output in model.graph.output][-len(head.channels) :]
    check_channels(head, [shapes[name][1] if len(shapes[name]) == 4 else None for name in maps])
    exported = _exported(head, [shapes[name] for name in maps], model_opset(model) or 0)
    joined = _spliced(model, exported, maps, head.outputs)
    _describe(joined, head)
    return joined


def check_channels(head: Head, found: Sequence[int | None]) -> None:
    """Raises UserError where maps of `found` channels are not those that the head takes."""
    if tuple(found) != head.channels:
        raise UserError(
            "the head does not fit the backbone",
            f"it takes maps of {_listed(head.channels)} channels, the backbone makes {_listed(found)}",
            "Give the head that was trained with this backbone, and a checkpoint whose stages are its outputs",
        )


def _describe(model: onnx.ModelProto, head: Head) -> None:
    """Say in the metadata which head this is, and how many classes it knows."""
    for entry in model.metadata_props:
        if entry.key == "laudc.config" and head.classes is not None:
            entry.value = json.dumps({**json.loads(entry.value), "num_classes": head.classes}, sort_keys=True)
    if head.about:
        entry = model.metadata_props.add()
        entry.key, entry.value = "laudc.head", json.dumps(head.about)


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _exported(head: Head, shapes: Sequence[Any], opset: int) -> onnx.ModelProto:
    import torch

    _require_exporter()
    maps = tuple(torch.zeros(*shape) for shape in shapes)
    names = [f"map{i}" for i in range(len(maps))]
    try:
        with _silence():
            program = torch.onnx.export(
                head.module if head.traceable is None else head.traceable,
                maps,
                dynamo=True,
                custom_translation_table=None if head.operators is None else dict(head.operators()),
                opset_version=opset,
                input_names=names,
                output_names=list(head.outputs),
                verbose=False,
            )
    except Exception as error:  # the exporter has many exceptions of its own
        raise UserError(
            "the head cannot be exported",
            f"torch.onnx says: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "Export the backbone alone (leave the head out), or use another version of the head's library",
        ) from error
    assert program is not None
    exported: onnx.ModelProto = program.model_proto
    foreign = {node.domain for node in exported.graph.node if node.domain not in ("", "ai.onnx")}
    if foreign or exported.functions:
        raise UserError(
            "the head cannot be used",
            f"it is not made of standard operators only: {_listed(sorted(foreign)) or 'it has functions of its own'}",
            "Export the backbone alone (leave the head out)",
        )
    return exported


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what the exporter says about its own work."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _require_exporter() -> None:
    import importlib.util

    if importlib.util.find_spec("onnxscript") is None:
        raise UserError(
            "heads of other libraries cannot be exported here",
            "torch.onnx needs onnxscript, which is not installed",
            "Install it with: pip install onnxscript",
        )


def _spliced(
    model: onnx.ModelProto, head: onnx.ModelProto, maps: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    names = {value.name: name for value, name in zip(head.graph.input, maps, strict=True)}
    names.update({value.name: name for value, name in zip(head.graph.output, outputs, strict=True)})
    joined = type(model)()
    joined.CopyFrom(model)
    graph = joined.graph
    graph.value_info.extend(model.graph.output)
    del graph.output[:]
    for number, node in enumerate(head.graph.node):
        added = graph.node.add()
        added.CopyFrom(node)
        added.name = f"{_PREFIX}{number}.{node.op_type}"
        del added.metadata_props[:]
        added.doc_string = ""
        _rename(added, names)
    for source, target in ((head.graph.initializer, graph.initializer), (head.graph.value_info, graph.value_info)):
        for entry in source:
            copied = target.add()
            copied.CopyFrom(entry)
            copied.name = _renamed(entry.name, names)
    for value in head.graph.output:
        output = graph.output.add()
        output.CopyFrom(value)
        output.name = _renamed(value.name, names)
    joined.ir_version = max(model.ir_version, head.ir_version)
    return joined


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for field in (node.input, node.output):
        renamed = [_renamed(name, names) for name in field]
        del field[:]
        field.extend(renamed)


def _renamed(name: str, names: Mapping[str, str]) -> str:
    return names.get(name, f"{_PREFIX}{name}" if name else "")
