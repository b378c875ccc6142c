"""The three things that can be run for a comparison: checkpoint, portable ONNX, engine bundle."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from laudc.backends.interface import join_outputs
from laudc.detect.queries import answers_with_boxes, answers_with_masks
from laudc.detect.second_stage import has_found
from laudc.errors import UserError
from laudc.ops import names
from laudc.verify.choices import Choices, Led, Watched, margin, shown_by, shown_names, watched
from laudc.verify.detections import FoundLayout, layout_of
from laudc.verify.outcome import Array, BlockOutcome, Decisions, Outcome

if TYPE_CHECKING:
    import onnx

    from laudc.engine import Engine

_GAP = ".gap"
_KINDS = names.KINDS


class Network(Protocol):
    """Something that runs images (B, 3, H, W) float32.

    `size` is (height, width) of its input, None if any will do; `fixed_batch` is the only batch size it
    takes, if any; `preprocess` is its metadata about the preparation of images. `found` says how objects lie in the
    outputs of a detector that selects them, as far as the file tells. `head` says what head of another library it ends
    with, "" for none. `can_be_led`: whether `led` can impose choices.
    """

    size: tuple[int, int] | None
    fixed_batch: int | None
    preprocess: Mapping[str, Any]
    found: FoundLayout | None
    head: str
    can_be_led: bool

    def run(self, images: Array) -> Outcome:
        """Run one batch."""

    def chosen(self, image: Array) -> Choices | None:
        """Run one image (1, 3, H, W) and say which boxes were kept; None where that is not known."""

    def led(self, image: Array, choices: Choices) -> Led | None:
        """Run one image with the choices of another network; None where none can be imposed."""


class _OwnChoices:
    """A network whose choices of boxes are neither known nor can be imposed."""

    can_be_led = False

    def chosen(self, image: Array) -> Choices | None:
        """See `Network`."""
        return None

    def led(self, image: Array, choices: Choices) -> Led | None:
        """See `Network`."""
        return None


class TorchNetwork(_OwnChoices):
    """A checkpoint, run by torch on the CPU."""

    head = ""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        arch: str | None,
        config: str | os.PathLike[str] | Mapping[str, Any] | None,
    ) -> None:
        from laudc.export.source import load_source

        source = load_source(path, arch=arch, config=config)
        self.size = source.config.image_size if source.config.has_spatial_masks else None
        self.fixed_batch: int | None = None
        self.preprocess = source.preprocess
        self.found: FoundLayout | None = None
        self._model = source.model.eval()

    def run(self, images: Array) -> Outcome:
        """Run one batch; margins and means are known."""
        import torch
        from laudnet import trace

        found = trace(self._model, torch.from_numpy(images))
        return Outcome(found.logits.numpy(), tuple(_torch_block(block) for block in found.blocks))


class TorchWithHead(_OwnChoices):
    """A detector's checkpoint, and behind its maps a head that its own library runs, not the form that is exported.

    Args:
        head: as for `laudc.export`. size: (height, width) of the images.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        head: str | os.PathLike[str] | Any,
        size: tuple[int, int],
        *,
        arch: str | None,
        config: str | os.PathLike[str] | Mapping[str, Any] | None,
    ) -> None:
        from laudc.export.head_choice import find_head
        from laudc.export.source import load_source

        source = load_source(path, arch=arch, config=config)
        try:
            self._head = find_head(head, path, config, source, size)
        except UserError as error:
            raise UserError(f"nothing was compared: {error.what}", error.why, error.fix) from error
        self.head = self._head.about
        self.can_be_led = self._head.led is not None
        self.size: tuple[int, int] | None = size
        # Heads take one image at a time.
        self.fixed_batch: int | None = 1
        self.preprocess = source.preprocess
        self.found: FoundLayout | None = None
        self._model: Any = source.model.eval()

    def run(self, images: Array) -> Outcome:
        """Run one image; margins and means are known."""
        with _quiet_torch():
            maps, blocks = self._maps(images)
            found = self._head.module(*maps)
        return Outcome(join_outputs([y.numpy() for y in found]), tuple(_torch_block(block.trace()) for block in blocks))

    def led(self, image: Array, choices: Choices) -> Led | None:
        """See `Network`: of a head that chooses distinct boxes."""
        if self._head.led is None:
            return None
        with _quiet_torch():
            maps, _ = self._maps(image)
            try:
                found, made = self._head.led(maps, choices.lists)
            except UserError:  # the target chose among other boxes
                return None
        turned = [one for one in made if not one.own]
        margins = [
            margin(one.boxes.numpy(), one.scores.numpy(), one.kept.numpy(), one.overlap, one.most) for one in turned
        ]
        return Led(join_outputs([y.numpy() for y in found])[0], max(margins, default=0.0))

    def _maps(self, images: Array) -> tuple[Any, Any]:
        """The maps that the head takes, and the blocks."""
        import torch

        from laudc.export.heads import check_channels

        outputs, blocks = self._model.run_outputs(torch.from_numpy(images))
        maps = outputs[-len(self._head.channels) :]
        check_channels(self._head, [x.shape[1] for x in maps])
        return maps, blocks


@contextlib.contextmanager
def _quiet_torch() -> Iterator[None]:
    """Without gradients, and without what a library warns of, which is not for our users."""
    import warnings

    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _torch_block(block: Any) -> BlockOutcome:
    decisions = {}
    for kind in _KINDS:
        keep = getattr(block, f"{kind}_keep", None)
        if keep is not None:
            decisions[kind] = Decisions(keep.numpy(), getattr(block, f"{kind}_margin").numpy())
    return BlockOutcome(block.name, decisions, block.gap.numpy())


class PortableNetwork(_OwnChoices):
    """Portable ONNX, run by plain ONNX Runtime without our library, so that the function bodies compute."""

    def __init__(self, model: onnx.ModelProto, threads: int | None) -> None:
        from laudc.engine.build import metadata
        from laudc.ops import known_shapes

        self._suppressions = watched(model)
        instrumented = shown_by(with_means_as_outputs(model), self._suppressions)
        known = metadata(model).get("preprocess")
        self.preprocess: Mapping[str, Any] = known if isinstance(known, Mapping) else {}
        self.head = _head_behind([output.name for output in model.graph.output], metadata(model).get("config"))
        self.fixed_batch: int | None
        self.fixed_batch, size = _input_shape(model)
        self.size: tuple[int, int] | None = size
        shapes = known_shapes(model)
        outputs = [output.name for output in model.graph.output]
        self.found = layout_of(outputs, [shapes[name] for name in outputs], size)
        self._input = model.graph.input[0].name
        self._results = [output.name for output in model.graph.output]
        self._outputs = [output.name for output in instrumented.graph.output]
        self._session = _open_session(instrumented, threads)

    def run(self, images: Array) -> Outcome:
        """Run one batch; means are known, margins are not."""
        found = dict(zip(self._outputs, self._session.run(None, {self._input: images}), strict=True))
        blocks: dict[str, BlockOutcome] = {
            name.removesuffix(_GAP): BlockOutcome(name.removesuffix(_GAP), {}, value.reshape(len(value), -1))
            for name, value in found.items()
            if name.endswith(_GAP)
        }
        for name, value in found.items():
            parts = names.split_mask_value(name)
            if parts is not None and parts[0] in blocks:
                blocks[parts[0]].decisions[parts[1]] = Decisions(value > 0)
        return Outcome(join_outputs([found[name] for name in self._results]), tuple(blocks.values()))

    def chosen(self, image: Array) -> Choices | None:
        """See `Network`."""
        if not self._suppressions:
            return None
        names = [*self._results, *shown_names(self._suppressions)]
        values = dict(zip(names, self._session.run(names, {self._input: image}), strict=True))
        return _choices(self._results, self._suppressions, values)


def with_means_as_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The portable graph with every mask and every block's output mean (`BLOCK.gap`) as graph outputs."""
    from onnx import TensorProto, helper

    from laudc.export import with_masks_as_outputs
    from laudc.ops import BLOCK_ENDS, BLOCKS

    shown = with_masks_as_outputs(model)
    for node in [node for node in shown.graph.node if node.op_type in BLOCK_ENDS]:
        name, value, dims = names.block_of_node(node.name) + _GAP, node.output[0], ["N", None, 1, 1]
        if node.op_type not in BLOCKS:
            # Tokens are averaged like the positions of a map.
            turned, dims = f"{name}.tokens", ["N", None, 1]
            shown.graph.node.append(helper.make_node("Transpose", [value], [turned], name=turned, perm=[0, 2, 1]))
            value = turned
        shown.graph.node.append(helper.make_node("GlobalAveragePool", [value], [name], name=name))
        shown.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
    return shown


def _open_session(model: onnx.ModelProto, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has no common base for its errors
        raise UserError(
            "the portable model cannot be run",
            f"ONNX Runtime {onnxruntime.__version__} refuses it: {error}",
            "Export it again, with a lower --opset if the runtime is old",
        ) from error


def _input_shape(model: onnx.ModelProto) -> tuple[int | None, tuple[int, int]]:
    from laudc.ops import known_shapes

    shape = known_shapes(model)[model.graph.input[0].name]
    if len(shape) != 4 or shape[2] is None or shape[3] is None:
        raise UserError(
            "the model's images have no fixed size",
            f"its input has shape {list(shape)}",
            "Export it with laudc export",
        )
    return shape[0], (shape[2], shape[3])


def _choices(results: Sequence[str], suppressions: Sequence[Watched], values: Mapping[str, Array]) -> Choices | None:
    outputs = join_outputs([values[name] for name in results])[0]
    lists = [kept for kept in (one.read(values) for one in suppressions) if kept is not None]
    return Choices(outputs, tuple(lists)) if len(lists) == len(suppressions) else None


class EngineNetwork(_OwnChoices):
    """An engine bundle, run by its own backend."""

    def __init__(self, path: str | os.PathLike[str], threads: int | None) -> None:
        from laudc.engine import load_engine

        self._path, self._threads = path, threads
        self._engine = load_engine(path, threads=threads)
        batch, _, height, width = self._engine.input_shape
        size = (int(height), int(width))
        self.size: tuple[int, int] | None = size
        outputs = self._engine.manifest.outputs
        self.found = layout_of([output.name for output in outputs], [output.shape for output in outputs], size)
        self.fixed_batch = batch if isinstance(batch, int) else None
        self.preprocess: Mapping[str, Any] = self._engine.manifest.preprocess
        self.head = _head_behind([output.name for output in outputs], self._engine.manifest.config)

    def run(self, images: Array) -> Outcome:
        """Run one batch; margins are known, means are not."""
        logits, margins = self._engine.trace(images)
        return Outcome(logits, tuple(_engine_block(name, kinds) for name, kinds in margins.items()))

    def chosen(self, image: Array) -> Choices | None:
        """See `Network`; of an engine whose bundle holds a graph."""
        suppressions, engine = self._with_choices
        if not suppressions:
            return None
        results = [output.name for output in self._engine.manifest.outputs]
        names = [*results, *shown_names(suppressions)]
        return _choices(results, suppressions, dict(zip(names, engine(image), strict=True)))

    @functools.cached_property
    def _with_choices(self) -> tuple[tuple[Watched, ...], Engine]:
        """The suppressions of the engine's graph, and the engine with their choices as further outputs."""
        from laudc.engine import load_engine

        found: list[Watched] = []

        def change(graph: onnx.ModelProto) -> onnx.ModelProto:
            found.extend(watched(graph))
            return shown_by(graph, found)

        engine = load_engine(self._path, threads=self._threads, change=change)
        return tuple(found), engine


def _head_behind(outputs: Sequence[str], config: Any) -> str:
    """Which kind of head of another library makes outputs of these names; "" for none."""
    if answers_with_masks(outputs):
        return "masks for queries"
    if answers_with_boxes(outputs):
        return "boxes for queries"
    own = config.get("head", "none") if isinstance(config, Mapping) else "none"
    return "boxes for distinct queries" if has_found(outputs) and own == "none" else ""


def _engine_block(name: str, margins: Mapping[str, Array | None]) -> BlockOutcome:
    decisions = {}
    for kind in _KINDS:
        margin = margins.get(f"{kind}_margin")
        if margin is not None:
            decisions[kind] = Decisions(names.kept(kind, margin), margin)
    return BlockOutcome(name, decisions)


def open_network(
    path: str | os.PathLike[str],
    *,
    arch: str | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    threads: int | None = None,
    checkpoints: bool = True,
    head: str | os.PathLike[str] | Any = None,
    size: tuple[int, int] | None = None,
) -> Network:
    """Open what `path` holds, going by its content: an engine bundle, a checkpoint or an ONNX model.

    Args:
        head: of a checkpoint, as for `laudc.export`; size: (height, width) of the images that it is for.

    Raises:
        UserError: the file cannot be read or holds none of them; with `checkpoints` false, also for a
            checkpoint.
    """
    kind = _kind(path)
    if head is not None and kind != "checkpoint":
        raise UserError(
            f"{os.fspath(path)} takes no head",
            "it is an exported model or an engine, which has its head inside",
            "Leave --head out, or give the checkpoint as --reference",
        )
    if kind != "checkpoint" and (arch is not None or config is not None):
        option = "arch" if arch is not None else "config"
        raise UserError(
            f"{os.fspath(path)} takes no {option}",
            "it is an exported model or an engine, which says itself what it is",
            f"leave --{option} out, or give the checkpoint as --reference",
        )
    if kind == "engine":
        return EngineNetwork(path, threads)
    if kind == "onnx":
        from laudc.engine.build import read_portable

        return PortableNetwork(read_portable(path)[0], threads)
    if not checkpoints:
        raise UserError(
            f"{os.fspath(path)} is a checkpoint",
            "only an exported model or an engine can be verified",
            "Export it first with laudc export, and give the checkpoint as --reference",
        )
    if head is not None:
        assert size is not None
        return TorchWithHead(path, head, size, arch=arch, config=config)
    return TorchNetwork(path, arch=arch, config=config)


def _kind(path: str | os.PathLike[str]) -> str:
    from laudc.engine.bundle import looks_like_bundle

    try:
        if looks_like_bundle(path):
            return "engine"
        return "checkpoint" if _looks_like_checkpoint(path) else "onnx"
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot read {os.fspath(path)}", reason, "Check the path and its permissions"
        ) from error


def _looks_like_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether the file starts like a zip archive or a pickle, the two forms torch writes."""
    with open(path, "rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04")
