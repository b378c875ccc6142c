"""DDQ-DETR of full size: engine against MMDetection's own torch code. Random weights; needs mmdet 3, mmcv, onnxscript.

    python benchmarks/ddq_exactness.py CONFIG.py --arch lad_mmdet_resnet101 --size 480x640 [--images photos/]

CONFIG.py is MMDetection's (`mmdet/.mim/configs/ddq/` of its package) or LAUDNet's; the backbone is a LAUD-ResNet with
channel masks (G=2). The random heads propose boxes that overlap, so that the choice of distinct queries has something
to do: the number of boxes that the library keeps is printed, for the encoder and after each layer of the decoder. Which
boxes stay hangs on comparisons that rounding may turn, so the library is compared with itself as well, on an image that
differs by as much as rounding.
"""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
from pathlib import Path
from typing import Any

import laudnet
import numpy as np
import torch
from laudnet.config_text import read_config_file

import laudc
from laudc.verify.compare import Leading, Tolerance, compare
from laudc.verify.detections import FoundLayout
from laudc.verify.images import gather_images, uneven_images
from laudc.verify.networks import open_network
from laudc.verify.outcome import Outcome
from laudc.verify.run import leading

#: Added to the logits of width and height: proposals of the encoder as large as objects, then a little more per layer.
_GROWTH_FIRST, _GROWTH = 1.2, 0.25
_ROUNDING = 1e-7


def backbone(arch: str, model: dict[str, Any]) -> laudnet.LaudDetector:
    """Backbone and neck, in eval mode; the masks keep about half."""
    torch.manual_seed(0)
    config = laudnet.DetectorConfig.for_arch(
        arch,
        dyn_mode=("channel",) * 4,
        channel_dyn_granularity=(2,) * 4,
        neck="channel_mapper",
        stages=tuple(model["backbone"]["out_indices"]),
        neck_channels=model["neck"]["out_channels"],
        neck_levels=model["neck"]["num_outs"],
    )
    network = laudnet.LaudDetector(config).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if ".masker_" in name and name.endswith("bias"):
                tensor.copy_(torch.randn(tensor.shape) * 0.3)
    return network


def head(model: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The library's tensors behind the neck."""
    import mmdet.models  # noqa: F401  (registers them)
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    config = {key: value for key, value in model.items() if key not in ("data_preprocessor", "train_cfg")}
    for part in ("encoder", "decoder"):  # checkpointing of activations needs fairscale
        config[part] = {key: value for key, value in config[part].items() if key != "num_cp"}
    torch.manual_seed(1)
    detector = MODELS.build(ConfigDict({**config, "backbone": {"type": torch.nn.Identity}, "train_cfg": None}))
    detector.init_weights()
    with torch.no_grad():
        for name, value in detector.named_parameters():
            if value.dim() > 1:
                value.copy_(torch.randn(value.shape) / value[0].numel() ** 0.5)
            elif "norm" not in name and "sampling_offsets" not in name:
                value.add_(torch.randn(value.shape) * 0.1)
            if "sampling_offsets.weight" in name:
                value.mul_(0.3)
        for branch in detector.bbox_head.cls_branches:
            branch.bias.fill_(-math.log(99))
        for number, branch in enumerate(detector.bbox_head.reg_branches):
            branch[-1].weight.mul_(0.1)
            branch[-1].bias.zero_()
            branch[-1].bias[2:] = _GROWTH_FIRST if number == detector.decoder.num_layers else _GROWTH
    return {key: value for key, value in detector.state_dict().items() if not key.startswith("neck.")}


def count_kept() -> list[tuple[int, int]]:
    """From now on, (boxes, those that stay) of every suppression in the library."""
    from mmdet.models.detectors import ddq_detr
    from mmdet.models.layers.transformer import ddq_detr_layers

    counts: list[tuple[int, int]] = []

    def watched(suppress: Any) -> Any:
        def run(boxes: Any, scores: Any, classes: Any, rule: Any) -> Any:
            found = suppress(boxes, scores, classes, rule)
            counts.append((len(boxes), len(found[1])))
            return found

        return run

    for module in (ddq_detr, ddq_detr_layers):
        module.batched_nms = watched(module.batched_nms)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--arch", default="lad_mmdet_resnet101")
    parser.add_argument("--size", default="480x640", help="HxW")
    parser.add_argument("--images", help="files or a folder instead of made images")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    model = read_config_file(args.config)["model"]
    height, width = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        file, engine = Path(folder) / "ddq.pth", Path(folder) / "ddq.laudc"
        torch.save({"state_dict": {**backbone(args.arch, model).state_dict(), **head(model)}}, file)
        laudc.build_engine(laudc.export(file, config=args.config, input_size=(height, width), head="mmdet"), engine)
        ours = open_network(engine)
        theirs = open_network(file, config=args.config, head="mmdet", size=(height, width))
    size = (height, width)
    images, _ = gather_images(args.images, size, ours.preprocess, seed=0, limit=None, make=uneven_images)
    counts = count_kept()
    for number in range(len(images)):
        image = images[number : number + 1]
        counts.clear()
        wanted = theirs.run(image)
        kept = ", ".join(f"{kept} of {boxes}" for boxes, kept in counts)
        noise = np.random.default_rng(number).standard_normal(image.shape, dtype=np.float32)
        again = theirs.run(image * (1 + np.float32(_ROUNDING) * noise))
        print(f"image {number}: kept {kept}")
        found = ours.run(image)
        lead = leading(ours, theirs, image, found)
        print(f"  engine against library: {judged(found, wanted, ours.found, lead)}")
        itself = judged(again, wanted, ours.found, lambda number: None)
        print(f"  library against itself, image changed by {_ROUNDING:.0e}: {itself}", flush=True)


def judged(target: Outcome, reference: Outcome, layout: FoundLayout | None, lead: Leading) -> str:
    """One comparison, as `laudc verify` makes it, in a line."""
    report = compare(target, reference, 1, Tolerance(1e-4, 1e-4, 1e-5), layout, lead)
    assert report.detections is not None
    detections, masks = report.detections, report.masks
    turned = masks.ties + masks.failures + masks.followers
    return (
        f"{detections}, the others by {report.logits.max_abs:.1e} at most; {turned} of {masks.decisions} mask decisions"
    )


if __name__ == "__main__":
    main()
