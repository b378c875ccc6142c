"""Against MMDetection's own detectors, where it is installed: same weights, same objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import laudnet
import numpy as np
import pytest
import torch

from laudc.detect import decoder_of
from laudc.detect.masks import paste
from laudc.export import export
from tests.export.detector_files import CONFIGS
from tests.export.models import noise, randomise
from tests.ops.runtimes import run_onnxruntime

pytest.importorskip("mmdet")
pytest.importorskip("mmcv._ext")
SIZES = [(96, 160), (101, 163), (224, 200)]
CLASSES = 7
BACKBONE = {"type": "ResNet", "depth": 50, "num_stages": 4, "out_indices": (0, 1, 2, 3), "norm_eval": True}


def full_config(head: str) -> Any:
    """The configuration that the file speaks of, with everything that MMDetection needs to build the detector."""
    from mmengine.config import Config

    config = Config.fromstring(CONFIGS[head], ".py").model
    config.backbone, config.train_cfg = dict(BACKBONE), None
    start = {"start_level": 1, "add_extra_convs": "on_input"} if head == "retinanet" else {}
    inputs = [256, 512, 1024, 2048]
    config.neck = {"type": "FPN", "in_channels": inputs, "out_channels": 64, "num_outs": 5, **start}
    shared = {"type": "CrossEntropyLoss", "loss_weight": 1.0}
    if head == "retinanet":
        config.bbox_head.update(num_classes=CLASSES, in_channels=64, feat_channels=64, stacked_convs=2)
        return config
    config.rpn_head.update(in_channels=64, feat_channels=64, loss_cls={**shared, "use_sigmoid": True})
    roi = config.roi_head
    for extractor in [key for key in roi if key.endswith("extractor")]:
        roi[extractor].update(type="SingleRoIExtractor", out_channels=64, featmap_strides=[4, 8, 16, 32])
    roi.bbox_head.update(in_channels=64, fc_out_channels=128, roi_feat_size=7, num_classes=CLASSES)
    roi.bbox_head.update(reg_class_agnostic=False, loss_cls={**shared, "use_sigmoid": False})
    if head == "mask_rcnn":
        masks = {"num_convs": 2, "in_channels": 64, "conv_out_channels": 32, "num_classes": CLASSES}
        roi.mask_head = {"type": "FCNMaskHead", **masks, "loss_mask": {**shared, "use_mask": True}}
    else:
        roi.pop("mask_roi_extractor")
    return config


def build(head: str) -> Any:
    """MMDetection's detector with scores and boxes that differ."""
    import mmdet.models  # noqa: F401  (registers them)
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(full_config(head))
    randomise(model)
    scale = {"fc_cls": 0.5, "rpn_cls": 0.5, "retina_cls": 0.5, "fc_reg": 0.3, "rpn_reg": 0.3, "retina_reg": 0.3}
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            factor = next((value for key, value in scale.items() if name.endswith(f"{key}.weight")), 1)
            tensor.mul_(factor)
            if name.endswith("retina_cls.bias"):
                tensor.zero_()
    return model.eval()


def laud_file(path: Path, model: Any, head: str) -> Path:
    """Its checkpoint with maskers that always keep, so that the network computes what the static one does."""
    tensors = model.state_dict()
    for name in [key for key in tensors if key.startswith("backbone.layer") and key.endswith(".conv1.weight")]:
        block = name.removesuffix(".conv1.weight")
        tensors[f"{block}.masker_spatial.conv.weight"] = torch.zeros(2, tensors[name].shape[1], 1, 1)
        tensors[f"{block}.masker_spatial.conv.bias"] = torch.tensor([5.0, 0.0])
    torch.save({"meta": {"cfg": CONFIGS[head]}, "state_dict": tensors}, path)
    return path


def found_by(model: Any, x: torch.Tensor) -> Any:
    from mmdet.structures import DetDataSample

    size = tuple(x.shape[2:])
    about = {"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0), "batch_input_shape": size, "img_id": 0}
    with torch.no_grad():
        return model.predict(x, [DetDataSample(metainfo=about)], rescale=False)[0].pred_instances


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("head", ["retinanet", "faster_rcnn", "mask_rcnn"])
def test_we_find_what_mmdetection_finds(head: str, size: tuple[int, int], tmp_path: Path) -> None:
    model, x = build(head), noise(1, 3, *size)
    file = laud_file(tmp_path / "detector.pth", model, head)
    config = laudnet.load_checkpoint(file).config
    assert config.head == head
    graph = export(file, input_size=size)
    outputs = run_onnxruntime(graph, {"input": x.numpy()})
    decoder = decoder_of([output.name for output in graph.graph.output], config.to_dict())
    assert decoder is not None
    ours = decoder([y[0] for y in outputs], size, 0.0)
    theirs = found_by(model, x)
    assert len(ours) == len(theirs.scores) > 0
    np.testing.assert_allclose([d.score for d in ours], theirs.scores.numpy(), atol=2e-5)
    np.testing.assert_array_equal([d.label for d in ours], theirs.labels.numpy())
    np.testing.assert_allclose([d.box for d in ours], theirs.bboxes.numpy(), atol=5e-3)
    if head == "mask_rcnn":
        pasted = np.stack([paste(d.mask, d.box, size) for d in ours if d.mask is not None])
        differing = np.count_nonzero(pasted != theirs.masks.numpy())
        assert np.count_nonzero(pasted) > 0 and differing <= 1e-4 * pasted.size
