"""Against torchvision's own detectors, where torchvision is installed: same weights, same objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import laudnet
import numpy as np
import pytest
import torch

import laudc
from laudc.detect import retinanet
from laudc.detect.masks import paste
from laudc.detect.rules import OneStageRules
from laudc.export import export
from tests.export.models import noise, randomise
from tests.ops.runtimes import run_onnxruntime

pytest.importorskip("torchvision")
CLASSES = 7
# Sides that 32 divides, as torchvision pads them, and others.
SIZES = [(96, 160), (101, 163), (64, 64)]


def body(stages: tuple[int, ...], extra: str) -> Any:
    """torchvision's ResNet with few blocks, and its FPN."""
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.resnet import Bottleneck, ResNet
    from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

    layers = {f"layer{stage + 1}": str(i) for i, stage in enumerate(stages)}
    inputs = [256 << stage for stage in stages]
    blocks = LastLevelMaxPool() if extra == "pool" else LastLevelP6P7(64, 64)
    return BackboneWithFPN(ResNet(Bottleneck, [1, 2, 2, 1]), layers, inputs, 64, blocks)


def two_stage(masks: bool) -> Any:
    """torchvision's Faster or Mask R-CNN with heads whose scores and boxes differ."""
    from torchvision.models.detection import FasterRCNN, MaskRCNN

    torch.manual_seed(0)
    model = (MaskRCNN if masks else FasterRCNN)(body((0, 1, 2, 3), "pool"), num_classes=CLASSES + 1)
    randomise(model)
    with torch.no_grad():
        model.rpn.head.cls_logits.weight.mul_(20)
        model.rpn.head.bbox_pred.weight.mul_(10)
        model.roi_heads.box_predictor.cls_score.weight.mul_(20)
        model.roi_heads.box_predictor.bbox_pred.weight.mul_(10)
        if masks:
            model.roi_heads.mask_predictor.mask_fcn_logits.weight.mul_(3)
    return model


def laud_file(path: Path, model: Any) -> Path:
    """The state dict with maskers that always keep, so that the network computes what the static one does."""
    tensors = model.state_dict()
    for name in [key for key in tensors if key.endswith(".conv1.weight") and ".layer" in key]:
        block = name.removesuffix(".conv1.weight")
        tensors[f"{block}.masker_spatial.conv.weight"] = torch.zeros(2, tensors[name].shape[1], 1, 1)
        tensors[f"{block}.masker_spatial.conv.bias"] = torch.tensor([5.0, 0.0])
    torch.save(tensors, path)
    return path


def found_by(model: Any, x: torch.Tensor) -> dict[str, np.ndarray]:
    """What torchvision finds in one image, without its transform; masks before they are pasted."""
    from torchvision.models.detection.image_list import ImageList

    sizes = [(x.shape[2], x.shape[3])]
    with torch.no_grad():
        features = model.backbone(x)
        proposals, _ = model.rpn(ImageList(x, sizes), features)
        found, _ = model.roi_heads(features, proposals, sizes)
    return {key: value.numpy() for key, value in found[0].items()}


def assert_same(ours: list[np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    count = len(theirs["scores"])
    assert count > 0 and np.count_nonzero(ours[1][0]) == count
    np.testing.assert_allclose(ours[1][0, :count], theirs["scores"], atol=1e-5)
    np.testing.assert_array_equal(ours[2][0, :count] + 1, theirs["labels"])
    np.testing.assert_allclose(ours[0][0, :count], theirs["boxes"], atol=5e-3)
    if len(ours) == 4:
        np.testing.assert_allclose(ours[3][0, :count], theirs["masks"][:, 0], atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("masks", [False, True], ids=["faster_rcnn", "mask_rcnn"])
def test_two_stages_find_what_torchvision_finds(masks: bool, size: tuple[int, int], tmp_path: Path) -> None:
    model = two_stage(masks)
    file = laud_file(tmp_path / "detector.pth", model)
    loaded = laudnet.load_checkpoint(file).model
    assert loaded.config.head == ("mask_rcnn" if masks else "faster_rcnn")
    x = noise(1, 3, *size)
    theirs = found_by(model, x)
    with torch.no_grad():
        assert_same([y.numpy() for y in loaded.outputs(x)], theirs)
    assert_same(run_onnxruntime(export(file, input_size=size), {"input": x.numpy()}), theirs)


def test_an_engine_finds_what_torchvision_finds(tmp_path: Path, native: None) -> None:
    model, x = two_stage(True), noise(1, 3, *SIZES[0])
    file = laud_file(tmp_path / "detector.pth", model)
    laudc.build_engine(laudc.export(file, input_size=SIZES[0]), tmp_path / "detector.laudc")
    with laudc.load_engine(tmp_path / "detector.laudc") as engine:
        assert_same(list(engine(x.numpy())), found_by(model, x))


@pytest.mark.parametrize("size", SIZES)
def test_retinanet_finds_what_torchvision_finds(size: tuple[int, int], tmp_path: Path) -> None:
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.image_list import ImageList

    torch.manual_seed(0)
    model = RetinaNet(body((1, 2, 3), "p6p7"), num_classes=CLASSES)
    randomise(model)
    with torch.no_grad():
        model.head.classification_head.cls_logits.weight.mul_(40)
        model.head.classification_head.cls_logits.bias.zero_()
        model.head.regression_head.bbox_reg.weight.mul_(10)
    file = laud_file(tmp_path / "detector.pth", model)
    x = noise(1, 3, *size)
    with torch.no_grad():
        features = list(model.backbone(x).values())
        head = model.head(features)
        anchors = model.anchor_generator(ImageList(x, [size]), features)
        counts = [f.shape[2] * f.shape[3] * 9 for f in features]
        split = {key: list(value.split(counts, dim=1)) for key, value in head.items()}
        theirs = model.postprocess_detections(split, [list(anchors[0].split(counts))], [size])[0]
    outputs = run_onnxruntime(export(file, input_size=size), {"input": x.numpy()})
    rules = OneStageRules.from_config(laudnet.load_checkpoint(file).config.to_dict())
    np.testing.assert_allclose(np.concatenate(retinanet.anchors_of(size, rules)), anchors[0].numpy(), atol=1e-4)
    ours = retinanet.detect(outputs[0][0], outputs[1][0], size, 0.05, rules)
    assert len(ours) == len(theirs["scores"]) > 0
    np.testing.assert_allclose([d.score for d in ours], theirs["scores"].numpy(), atol=1e-5)
    np.testing.assert_array_equal([d.label for d in ours], theirs["labels"].numpy())
    np.testing.assert_allclose([d.box for d in ours], theirs["boxes"].numpy(), atol=5e-3)


def test_pasted_masks_are_nearly_torchvisions() -> None:
    """It rounds the box to pixels, MMDetection and we do not: masks differ along their border."""
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    rows, columns = np.mgrid[:28, :28]
    mask = (((rows - 14) ** 2 + (columns - 12) ** 2) < 100).astype(np.float32)
    box = (11.3, 5.8, 70.2, 61.4)
    ours = paste(mask, box, (80, 90))
    theirs = paste_masks_in_image(torch.from_numpy(mask)[None, None], torch.tensor([box]), (80, 90)) >= 0.5
    both = theirs[0, 0].numpy()
    assert np.count_nonzero(ours & both) / np.count_nonzero(ours | both) > 0.93
