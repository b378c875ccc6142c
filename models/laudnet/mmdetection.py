"""MMDetection's training configurations (2.21 and 3.3) to what a detector's tensors do not tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config_text import read_config_text
from .detector_rules import AnchorRule, DetectionRules, ProposalRule, RegionRule, ResultRule

#: Where `load_checkpoint` puts a configuration that the caller read.
TRAINING = "laudnet.training"
_MOST_ANCHORS = 64  # sizes, ratios and levels each; far above any published detector
_HEADS = {"RetinaNet": "retinanet", "FasterRCNN": "faster_rcnn", "MaskRCNN": "mask_rcnn"}


def training_config(content: Mapping[Any, Any]) -> Mapping[str, Any] | None:
    """The training configuration of a checkpoint's content: the caller's, else the one that MMDetection wrote into
    `meta`; None without one. ValueError for one that cannot be read.
    """
    given = content.get(TRAINING)
    if isinstance(given, Mapping):
        return given
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    texts = [meta.get(key) for key in ("config", "cfg")]
    text = next((text for text in texts if isinstance(text, str) and text.strip()), None)
    return None if text is None else read_config_text(text)


def detector_options(training: Mapping[str, Any], head: str, levels: int) -> dict[str, Any]:
    """Options of `DetectorConfig` that a configuration says; `head`, `levels`: what the tensors say.

    ValueError for a detector that has no counterpart here.
    """
    model = _part(training, "model")
    told = _HEADS.get(str(model.get("type")))
    if told != head:
        raise ValueError(
            f"model: the training configuration describes a {model.get('type')!r}, the tensors are those of {head!r}"
        )
    neck = _part(model, "neck")
    if neck.get("add_extra_convs") == "on_lateral":
        raise ValueError("neck: add_extra_convs 'on_lateral' is not known")
    options: dict[str, Any] = {"extra_relu": bool(neck.get("relu_before_extra_convs", False))}
    options["rules"] = _one_stage(model, levels) if head == "retinanet" else _two_stages(model, training)
    size = _image_size(training)
    return {**options, **({"test_size": size} if size else {})}


def image_statistics(training: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and standard deviation of the images' channels, for samples of 0..1; empty where nothing is said.

    ValueError for networks that see blue first.
    """
    found = _part(_part(training, "model"), "data_preprocessor") or _part(training, "img_norm_cfg")
    if not found:
        return {}
    if not found.get("bgr_to_rgb", found.get("to_rgb", True)):
        raise ValueError("img_norm_cfg: the network was trained on images with blue first, which are not made here")
    result = {}
    for name in ("mean", "std"):
        values = found.get(name)
        if isinstance(values, list) and len(values) == 3 and all(isinstance(v, (int, float)) for v in values):
            result[name] = [value / 255 for value in values]
    return result


def _part(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        inner = record.get(name)
        record = inner if isinstance(inner, Mapping) else {}
    return dict(record)


def _one_stage(model: Mapping[str, Any], levels: int) -> DetectionRules:
    head = _part(model, "bbox_head")
    _expect_stds(head, [1.0] * 4)
    return DetectionRules(_anchors(_part(head, "anchor_generator"), levels), results=_results(_part(model, "test_cfg")))


def _two_stages(model: Mapping[str, Any], training: Mapping[str, Any]) -> DetectionRules:
    rpn, roi = _part(model, "rpn_head"), _part(model, "roi_head")
    _expect_stds(rpn, [1.0] * 4)
    tests = _part(model, "test_cfg") or _part(training, "test_cfg")
    proposals, results = _part(tests, "rpn"), _results(_part(tests, "rcnn"))
    box = _part(roi, "bbox_head")
    if box.get("reg_class_agnostic"):
        raise ValueError("roi_head: boxes that all classes share are not known")
    stds = _part(box, "bbox_coder").get("target_stds")
    results = results if stds is None else ResultRule(**{**vars(results), "stds": stds})
    return DetectionRules(
        _anchors(_part(rpn, "anchor_generator"), None),
        ProposalRule(
            candidates=proposals.get("nms_pre", 1000),
            overlap=_part(proposals, "nms").get("iou_threshold", proposals.get("nms_thr", 0.7)),
            most=proposals.get("max_per_img", proposals.get("max_num", 1000)),
            min_side=float(proposals.get("min_bbox_size", 0)),
        ),
        _regions(roi),
        results,
    )


def _expect_stds(head: Mapping[str, Any], wanted: list[float]) -> None:
    coder = _part(head, "bbox_coder")
    if [float(value) for value in coder.get("target_stds", wanted)] != wanted or any(coder.get("target_means", [])):
        raise ValueError("bbox_coder: only deltas that are not normalised are known here")


def _anchors(generator: Mapping[str, Any], levels: int | None) -> AnchorRule:
    strides = generator.get("strides") or ([4, 8, 16, 32, 64] if levels is None else [8 << i for i in range(levels)])
    octave, parts = generator.get("octave_base_scale"), generator.get("scales_per_octave")
    if parts and not 1 <= parts <= _MOST_ANCHORS:
        raise ValueError(f"scales_per_octave: expected a number from 1 to {_MOST_ANCHORS}, got {parts!r}")
    scales = generator.get("scales") or (
        [octave * 2 ** (i / parts) for i in range(parts)] if octave and parts else [8] if levels is None else None
    )
    if scales is None:
        octave, parts = 4, 3
        scales = [octave * 2 ** (i / parts) for i in range(parts)]
    ratios = generator.get("ratios") or (0.5, 1.0, 2.0)
    # All of them are multiplied with one another.
    for name, values in (("strides", strides), ("scales", scales), ("ratios", ratios)):
        if len(values) > _MOST_ANCHORS:
            raise ValueError(f"{name}: expected at most {_MOST_ANCHORS} of an anchor generator, got {len(values)}")
    sizes = tuple(tuple(float(stride) * float(scale) for scale in scales) for stride in strides)
    return AnchorRule(sizes, tuple(map(float, ratios)))


def _regions(roi: Mapping[str, Any]) -> RegionRule:
    boxes, masks = _part(roi, "bbox_roi_extractor"), _part(roi, "mask_roi_extractor")
    layer = _part(boxes, "roi_layer")
    if layer.get("type", "RoIAlign") != "RoIAlign":
        raise ValueError(f"roi_layer: {layer.get('type')!r} is not known")
    return RegionRule(
        box_cells=layer.get("output_size", 7),
        mask_cells=_part(masks, "roi_layer").get("output_size", 14),
        sampling=layer.get("sampling_ratio", 0),
        aligned=layer.get("aligned", True),
        finest=float(boxes.get("finest_scale", 56)),
    )


def _results(test: Mapping[str, Any]) -> ResultRule:
    nms = _part(test, "nms")
    if nms.get("type", "nms") != "nms":
        raise ValueError(f"nms: the kind {nms.get('type')!r} is not known")
    return ResultRule(
        score=float(test.get("score_thr", 0.05)),
        overlap=float(nms.get("iou_threshold", nms.get("iou_thr", 0.5))),
        most=test.get("max_per_img", 100),
        min_side=float(test.get("min_bbox_size", -1)),
        candidates=test.get("nms_pre", 1000),
    )


def _image_size(training: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) of the largest padded images, from the size that the test pipeline resizes to."""
    for step in training.get("test_pipeline") or ():
        scale = step.get("img_scale") or step.get("scale") if isinstance(step, Mapping) else None
        if isinstance(scale, list) and len(scale) == 2 and all(isinstance(side, int) for side in scale):
            short, long = sorted(-(-side // 32) * 32 for side in scale)
            return short, long
    return None
