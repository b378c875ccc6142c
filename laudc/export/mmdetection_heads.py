"""Heads of MMDetection 3, with the weights of the checkpoint itself: DDQ-DETR and Mask2Former.

The library builds the detector from the training configuration, which is data from strangers. Being registered makes no
class safe to build: some constructors run files or download weights that their arguments name. So each place of the
configuration may name only the few parts listed for it here. What the result computes is the library's own
code; `mmdetection_graph` has the form of it that can be exported.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from laudc.errors import UserError
from laudc.export.heads import Head, Leading, Suppression
from laudc.export.mmdetection_limits import check_size

if TYPE_CHECKING:
    from laudnet.checkpoint import DetectorFile
    from torch import Tensor

#: Of Mask2Former, as of the transformers library's.
MASK_OUTPUTS = ("class_logits", "mask_logits")
#: Of DDQ-DETR, which selects what it found, as two-stage detectors do.
FOUND_OUTPUTS = ("boxes", "scores", "labels")

# Says where weights come from, how training saves memory, or how it assigns targets: nothing of it is needed.
_TRAINING_ONLY = frozenset({"init_cfg", "num_cp", "train_cfg", "_scope_"})
# Training gives the decoder a second name for heads that only training uses.
_SECOND_NAMES = "decoder.aux_reg_branches."
_DDQ_PARTS = (
    "num_queries",
    "dense_topk_ratio",
    "with_box_refine",
    "as_two_stage",
    "num_feature_levels",
    "encoder",
    "decoder",
    "positional_encoding",
    "bbox_head",
    "dn_cfg",
    "test_cfg",
)
# What may be built, by its place in a configuration: parts whose constructors read, evaluate and download nothing.
_NORMS, _ACTIVATIONS = ("GN", "BN", "LN", "SyncBN"), ("ReLU", "GELU")
_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "neck": ("ChannelMapper",),
    "bbox_head": ("DDQDETRHead",),
    "panoptic_head": ("Mask2FormerHead",),
    "pixel_decoder": ("MSDeformAttnPixelDecoder",),
    "positional_encoding": ("SinePositionalEncoding",),
    "loss_cls": ("FocalLoss", "QualityFocalLoss", "CrossEntropyLoss"),
    "loss_bbox": ("L1Loss", "SmoothL1Loss"),
    "loss_iou": ("GIoULoss", "IoULoss", "DIoULoss", "CIoULoss"),
    "loss_mask": ("CrossEntropyLoss", "FocalLoss"),
    "loss_dice": ("DiceLoss",),
    "norm_cfg": _NORMS,
    "post_norm_cfg": _NORMS,
    "act_cfg": _ACTIVATIONS,
    "dropout_layer": ("Dropout", "DropPath"),
}
_SHOWN, _SHOWN_REASON = 80, 200
_LEAVE_OUT = "Export backbone and neck alone (leave --head out)"
_Size = tuple[int, int]


@dataclass(frozen=True)
class _Request:
    """What a head is built from: `model` of the training configuration, all tensors, image (height, width), and
    whether the library's neck comes first.
    """

    name: str
    model: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    size: _Size
    with_neck: bool


def mmdetection_head(name: str, file: DetectorFile, size: tuple[int, int], *, with_neck: bool) -> Head:
    """The head of a detector's checkpoint, built by MMDetection.

    Args:
        name: of the file, for messages. file: its tensors and training configuration.
        size: (height, width) of the images.
        with_neck: the head takes the backbone's stage maps; else those of the neck.

    Raises:
        UserError: MMDetection is not installed, nothing says how the detector was trained, its head is not known here,
            or configuration and weights do not fit.
    """
    if file.training is None:
        raise UserError(
            f"the head of {name} cannot be built",
            "the file does not hold the configuration that it was trained with",
            "Give MMDetection's .py file with --config, with the _base_ files that it names beside it",
        )
    model = file.training.get("model")
    kind = model.get("type") if isinstance(model, Mapping) else None
    build = _KINDS.get(str(kind))
    if build is None or not isinstance(model, Mapping):
        raise UserError(
            f"the head of {name} cannot be used",
            f"its configuration describes a {_shown(kind)}; known from MMDetection are {', '.join(_KINDS)}",
            _LEAVE_OUT,
        )
    library = _library(name)
    head = build(library, _Request(name, model, file.tensors, size, with_neck))
    return replace(head, about=f"{kind} of MMDetection {library.version}")


def _library(name: str) -> SimpleNamespace:
    """What is used of MMDetection and of the libraries below it. Raises UserError."""
    try:
        import mmdet
        import mmdet.models  # registers its parts
        from mmcv.ops import MultiScaleDeformableAttention
        from mmdet.registry import MODELS
        from mmdet.structures import DetDataSample
        from mmengine.config import ConfigDict
    except Exception as error:  # besides ImportError, mmdet asserts versions and mmcv loads compiled code
        raise UserError(
            f"the head of {name} cannot be built here",
            f"MMDetection cannot be used: {_reason(error)}",
            "Install mmdet 3 with mmengine, an mmcv with its compiled operators, and onnxscript. Without them, leave "
            "--head out: backbone and neck are exported all the same",
        ) from error
    version = str(mmdet.__version__)
    if version.split(".")[0] != "3":
        raise UserError(
            f"the head of {name} cannot be built here",
            f"MMDetection {version} is installed, and version 3 is needed",
            "Install mmdet 3",
        )
    return SimpleNamespace(
        version=version, models=MODELS, config=ConfigDict, sample=DetDataSample, attention=MultiScaleDeformableAttention
    )


def _ddq(library: SimpleNamespace, request: _Request) -> Head:
    """DDQ-DETR: everything behind the neck, with the selection of what was found."""
    from laudc.export.mmdetection_graph import DdqGraph, standard_operators

    parts = {key: request.model[key] for key in _DDQ_PARTS if key in request.model}
    _expect(request, parts.get("bbox_head"), "DDQDETRHead")
    suppression, limit = _suppression(request), _limit(request)
    detector = _built(library, request, "", parts, {"type": "DDQDETR", **_no_backbone(), "dqs_cfg": suppression})
    found = detector.bbox_head
    if not found.loss_cls.use_sigmoid or len(detector.decoder.layers) < 2:
        raise UserError(
            f"the head of {request.name} cannot be used",
            "only a DDQ-DETR with sigmoid scores and two or more decoder layers is known here",
            _LEAVE_OUT,
        )
    classes = found.cls_out_channels
    most = min(detector.num_queries if limit is None else limit, detector.num_queries * classes)
    found.test_cfg = library.config(max_per_img=most)
    neck = _neck(library, request)
    kept = {key: value for key, value in request.tensors.items() if not key.startswith(_SECOND_NAMES)}
    _load(request, {"": detector, **_neck_part(neck)}, kept, ignored=("backbone.", *_ours(request)))
    channels = _channels(request, [detector.embed_dims] * detector.num_feature_levels)
    about = {"img_shape": request.size, "batch_input_shape": request.size, "ori_shape": request.size}
    samples = [library.sample(metainfo=about)]
    attentions = _attentions(library, detector)
    predicting = _library_ddq(detector, neck, samples)
    return Head(
        predicting,
        FOUND_OUTPUTS,
        channels,
        traceable=DdqGraph(detector, neck, attentions, most, request.size).eval(),
        operators=standard_operators,
        classes=classes,
        led=_led_ddq(predicting, detector.num_queries),
    )


def _limit(request: _Request) -> int | None:
    """How many objects are kept, where the configuration says so."""
    tests = request.model.get("test_cfg")
    given = None if tests is None else tests.get("max_per_img") if isinstance(tests, Mapping) else tests
    if (tests is None or isinstance(tests, Mapping)) and (given is None or (type(given) is int and given > 0)):
        return given
    raise UserError(
        f"the head of {request.name} cannot be used",
        f"its test_cfg says {_shown(given)} where max_per_img is to be a whole number above 0",
        "Correct the configuration",
    )


def _suppression(request: _Request) -> dict[str, Any]:
    """How distinct queries are chosen. mmcv evaluates the name of the kind as code, so just one is let through."""
    given = request.model.get("dqs_cfg", {"type": "nms", "iou_threshold": 0.8})
    overlap = given.get("iou_threshold") if isinstance(given, Mapping) else None
    is_share = isinstance(overlap, (int, float)) and 0 <= overlap <= 1
    if not is_share or set(given) != {"type", "iou_threshold"} or given["type"] != "nms":
        raise UserError(
            f"the head of {request.name} cannot be used",
            f"its dqs_cfg is {_shown(given)}, and only {{'type': 'nms', 'iou_threshold': 0 to 1}} is known",
            _LEAVE_OUT,
        )
    return {"type": "nms", "iou_threshold": float(overlap)}  # type: ignore[arg-type]


def _mask2former(library: SimpleNamespace, request: _Request) -> Head:
    """Mask2Former with its pixel decoder."""
    from laudc.export.mmdetection_graph import Mask2FormerGraph

    config = request.model.get("panoptic_head")
    _expect(request, config, "Mask2FormerHead")
    _expect(request, _part(config, "pixel_decoder"), "MSDeformAttnPixelDecoder")
    head = _built(library, request, "panoptic_head", dict(config or {}), {"train_cfg": None, "test_cfg": None})
    neck = _neck(library, request)
    ignored = ("backbone.", "panoptic_fusion_head.", *_ours(request))
    _load(request, {"panoptic_head.": head, **_neck_part(neck)}, request.tensors, ignored=ignored)
    given = _part(config, "in_channels")
    channels = _channels(request, given if isinstance(given, list) else [])
    return Head(
        _library_mask2former(head, neck),
        MASK_OUTPUTS,
        channels,
        traceable=Mask2FormerGraph(head, neck, _attentions(library, head)).eval(),
        classes=head.num_classes,
    )


_KINDS: Mapping[str, Callable[[SimpleNamespace, _Request], Head]] = {"DDQDETR": _ddq, "Mask2Former": _mask2former}


def _expect(request: _Request, part: Any, wanted: str) -> None:
    found = _part(part, "type")
    if found != wanted:
        raise UserError(
            f"the head of {request.name} cannot be used",
            f"its configuration names {_shown(found)} where only {wanted} is known",
            _LEAVE_OUT,
        )


def _shown(value: Any) -> str:
    """A stranger's value for messages: on one line and not long."""
    return repr(value)[:_SHOWN]


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "".join(c if c.isprintable() else "?" for c in lines[0][:_SHOWN_REASON])


def _part(record: Any, name: str) -> Any:
    return record.get(name) if isinstance(record, Mapping) else None


def _no_backbone() -> dict[str, Any]:
    from torch import nn

    return {"backbone": {"type": nn.Identity}, "train_cfg": None}


def _neck(library: SimpleNamespace, request: _Request) -> Any:
    """The library's neck, where one is described and asked for."""
    config = request.model.get("neck")
    if not request.with_neck or not isinstance(config, Mapping):
        return None
    return _built(library, request, "neck", dict(config), {})


def _neck_part(neck: Any) -> dict[str, Any]:
    return {} if neck is None else {"neck.": neck}


def _ours(request: _Request) -> tuple[str, ...]:
    """Prefixes of tensors that our own part of the network has loaded."""
    return () if request.with_neck else ("neck.",)


def _channels(request: _Request, own: Sequence[int]) -> tuple[int, ...]:
    """Of the maps that come in: the neck's inputs where the library computes it, else the head's."""
    given = _part(request.model.get("neck"), "in_channels") if request.with_neck else None
    return tuple(given if isinstance(given, list) else own)


def _attentions(library: SimpleNamespace, model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, library.attention)]


def _built(
    library: SimpleNamespace, request: _Request, place: str, config: dict[str, Any], more: Mapping[str, Any]
) -> Any:
    """A part of the detector without weights. `place`: its key in the configuration; `more` is added to what that
    says.
    """
    import torch

    checked = {**_checked(request.name, place, config), **more}
    try:
        with torch.device("meta"):
            return library.models.build(library.config(checked)).eval()
    except Exception as error:  # constructors check little, and fail in many ways
        raise UserError(
            f"the head of {request.name} cannot be built",
            f"MMDetection {library.version} makes no {checked['type']} of its configuration: {_reason(error)}",
            "Correct the configuration, or use the version that the detector was trained with",
        ) from error


def _checked(name: str, place: str, value: Any) -> Any:
    """A configuration with what only training needs left out. It may name only what is allowed at its place, and no
    sizes beyond all detectors.
    """
    if isinstance(value, Mapping):
        if "type" in value and value["type"] not in _ALLOWED.get(place, ()):
            allowed = ", ".join(_ALLOWED.get(place, ())) or "no type at all"
            raise UserError(
                f"the head of {name} cannot be built",
                f"its configuration names {_shown(value['type'])} as {_shown(place)}, and allowed there: {allowed}",
                _LEAVE_OUT,
            )
        entries = {key: entry for key, entry in value.items() if key not in _TRAINING_ONLY}
        return {key: _checked(name, key, entry) for key, entry in entries.items()}
    check_size(name, place, value)
    return [_checked(name, place, entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _load(
    request: _Request, parts: Mapping[str, Any], tensors: Mapping[str, Tensor], *, ignored: tuple[str, ...]
) -> None:
    """Give the parts, by the prefix of their tensors, the weights of the checkpoint: all of them, and nothing is left
    over but what is `ignored`.
    """
    wanted = {f"{prefix}{key}": value for prefix, part in parts.items() for key, value in part.state_dict().items()}
    found = {key: value for key, value in tensors.items() if not key.startswith(ignored)}
    _compare(request.name, wanted, found)
    for prefix, part in parts.items():
        own = {key: found[f"{prefix}{key}"] for key in part.state_dict()}
        weights = {key: value.float() if value.is_floating_point() else value for key, value in own.items()}
        part.load_state_dict(weights, assign=True)
        part.requires_grad_(False)


def _compare(name: str, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    from laudnet.untrusted import some

    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in wanted]
    other = [key for key in wanted if key in found and wanted[key].shape != found[key].shape]
    parts = [f"{some(missing)} missing"] if missing else []
    if unexpected:
        parts.append(f"{some(unexpected)} not part of the detector")
    if other:
        shapes = f"{list(found[other[0]].shape)}, not {list(wanted[other[0]].shape)}"
        parts.append(f"{some(other)} of another shape ({shapes})")
    if parts:
        raise UserError(
            f"the head of {name} cannot be loaded",
            f"checkpoint and configuration do not belong together: {'; '.join(parts)}",
            "Give the configuration that the detector was trained with",
        )


def _library_ddq(detector: Any, neck: Any, samples: Sequence[Any]) -> Any:
    """The library's own prediction, from maps."""
    from torch import nn

    class LibraryDdq(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.detector, self.neck = detector, neck

        def forward(self, *maps: Any) -> tuple[Any, ...]:
            return self.predict(maps, _first_of_ties)

        def predict(self, maps: Any, choosing: _Choosing) -> tuple[Any, ...]:
            levels = maps if self.neck is None else self.neck(maps)
            with _suppressing(self.detector, choosing):
                inputs = self.detector.forward_transformer(levels, samples)
            found = self.detector.bbox_head.predict(**inputs, rescale=False, batch_data_samples=samples)[0]
            return found.bboxes[None], found.scores[None], found.labels[None]

    return LibraryDdq().eval()


def _led_ddq(predicting: Any, most: int) -> Leading:
    """The library's own prediction with given choices of distinct queries, of which there are at most `most`."""

    def run(maps: Sequence[Any], choices: Sequence[tuple[int, Any]]) -> tuple[tuple[Any, ...], list[Suppression]]:
        given, noted = iter(choices), list[Suppression]()
        outputs = predicting.predict(maps, lambda suppress: _given(suppress, given, most, noted))
        return outputs, noted

    return run


def _given(
    suppress: Callable[..., Any], choices: Iterator[tuple[int, Any]], most: int, noted: list[Suppression]
) -> Callable[..., Any]:
    """In place of mmcv's `batched_nms` for boxes of one class: answers with the next of `choices`, and notes what it
    was asked.
    """
    import torch

    from laudc.export.mmdetection_graph import apart

    own = _first_of_ties(suppress)

    def run(boxes: Any, scores: Any, classes: Any, rule: Any) -> Any:
        candidates, chosen = next(choices, (0, None))
        if candidates != len(boxes):
            raise UserError(
                "the choice of distinct boxes cannot be followed",
                f"it is one among {candidates} boxes, and {len(boxes)} take part",
                "Give the model that was exported from this checkpoint",
            )
        found, kept = own(boxes, scores, classes, rule)
        follow = torch.as_tensor(chosen, dtype=kept.dtype, device=kept.device)
        moved = apart(boxes, torch.ones_like(scores, dtype=torch.bool))
        alike = torch.equal(kept[:most], follow)
        noted.append(Suppression(moved, scores, follow, alike, float(rule["iou_threshold"]), most))
        return found, follow

    return run


#: Makes another function of mmcv's `batched_nms`.
_Choosing = Callable[[Callable[..., Any]], Callable[..., Any]]


@contextlib.contextmanager
def _suppressing(detector: Any, choosing: _Choosing) -> Iterator[None]:
    """Let the library choose distinct queries with what `choosing` makes of its function."""
    modules = {sys.modules[type(part).__module__] for part in (detector, detector.decoder)}
    names = [(module, module.batched_nms) for module in modules if hasattr(module, "batched_nms")]
    try:
        for module, suppress in names:
            module.batched_nms = choosing(suppress)  # type: ignore[attr-defined]
        yield
    finally:
        for module, suppress in names:
            module.batched_nms = suppress  # type: ignore[attr-defined]


def _first_of_ties(suppress: Callable[..., Any]) -> Callable[..., Any]:
    """mmcv's `batched_nms` with ranks for scores, so that none are alike: the first of boxes that score alike counts.
    What it says of scores is ranks, too.

    The positions at the border, which the library leaves out, all have the same score and box, and one of them is often
    among the best. Which one, the library leaves to a sort that is not stable: it differs between machines.
    """
    import torch

    def run(boxes: Any, scores: Any, classes: Any, rule: Any) -> Any:
        order = scores.argsort(descending=True, stable=True)
        ranks = torch.arange(len(order), 0, -1, dtype=scores.dtype, device=scores.device)
        found, kept = suppress(boxes[order], ranks, classes[order], rule)
        return found, order[kept]

    return run


def _library_mask2former(head: Any, neck: Any) -> Any:
    """The library's own head, from maps: logits of its last layer."""
    from torch import nn

    class LibraryMask2Former(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.neck = head, neck

        def forward(self, *maps: Any) -> tuple[Any, ...]:
            classes, masks = self.head(maps if self.neck is None else self.neck(maps), None)
            return classes[-1], masks[-1]

    return LibraryMask2Former().eval()
