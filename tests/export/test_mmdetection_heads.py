"""Heads of MMDetection: built and loaded with a stand-in for the library, and against the library where it is."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

import laudc
from laudc.cli import main
from laudc.errors import UserError
from laudc.export import dense_twin, export, mmdetection_heads
from laudc.export.head_choice import find_head
from laudc.export.heads import Head
from laudc.export.source import load_source
from laudc.verify.networks import open_network
from tests.export import fake_mmdetection
from tests.export.mmdetection_heads import CLASSES, CONFIGS, detector_file, small_backbone
from tests.export.models import noise, small_model
from tests.ops.runtimes import run_onnxruntime

SIZE = (101, 163)


def fake_weights(kind: str) -> dict[str, Tensor]:
    """Of the stand-in's parts."""
    torch.manual_seed(0)
    if kind == "Mask2Former":
        return {
            "panoptic_head.cls_embed.weight": torch.randn(8, 32),
            "panoptic_head.cls_embed.bias": torch.randn(8),
        }
    tensors = {}
    for i in range(3):
        tensors[f"decoder.layers.{i}.value_proj.weight"] = torch.randn(4, 4)
        tensors[f"decoder.layers.{i}.value_proj.bias"] = torch.randn(4)
    for name in ("bbox_head", "decoder"):  # training leaves them under both names
        tensors[f"{name}.aux_reg_branches.0.weight"] = torch.ones(4, 4)
        tensors[f"{name}.aux_reg_branches.0.bias"] = torch.ones(4)
    return tensors


def found_head(file: Path, **options: Any) -> Head:
    source = load_source(file, **options)
    return find_head("mmdet", file, options.get("config"), source, SIZE)


def fake_file(tmp_path: Path, kind: str, change: tuple[str, str] = ("", ""), **more: Tensor) -> Path:
    config = CONFIGS[kind].replace(*change)
    assert not change[0] or config != CONFIGS[kind]
    return detector_file(tmp_path / f"{kind}.pth", config, {**fake_weights(kind), **more}, kind)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_head_gets_the_weights_of_the_checkpoint(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_mmdetection.install(monkeypatch)
    head = found_head(fake_file(tmp_path, kind))
    assert head.classes == CLASSES and head.about == f"{kind} of MMDetection 3.3.0"
    weights = {key.split(".", 1)[1]: value for key, value in head.module.state_dict().items()}
    for key, value in fake_weights(kind).items():
        name = key.removeprefix("panoptic_head.")
        if not name.startswith("decoder.aux_"):
            torch.testing.assert_close(weights[name], value)
    assert not any(value.is_meta or value.requires_grad for value in head.module.parameters())
    maps = small_backbone(kind).outputs(noise(1, 3, *SIZE))
    assert [x.shape[1] for x in maps] == list(head.channels)
    outputs = head.module(*maps)
    if kind == "DDQDETR":
        assert [tuple(y.shape) for y in outputs] == [(1, 30, 4), (1, 30), (1, 30)]
        about = head.module.detector.options
        assert about["train_cfg"] is None and "num_cp" not in about["encoder"] and "neck" not in about
    else:
        # The last layer's.
        torch.testing.assert_close(outputs[1], maps[0])


def test_a_neck_that_is_not_ours_is_the_librarys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_mmdetection.install(monkeypatch)
    neck = "neck=dict(type='ChannelMapper', in_channels=[32, 64, 128, 256]),\n    panoptic_head"
    scale = torch.tensor([3.0])
    file = fake_file(tmp_path, "Mask2Former", ("panoptic_head", neck), **{"neck.scale": scale})
    head = found_head(file)
    maps = small_backbone("Mask2Former").outputs(noise(1, 3, *SIZE))
    torch.testing.assert_close(head.module(*maps)[1], 3 * maps[0])


def test_configurations_in_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_mmdetection.install(monkeypatch)
    file = detector_file(tmp_path / "bare.pth", "", fake_weights("DDQDETR"), "DDQDETR")
    with pytest.raises(UserError, match="does not hold the configuration.*--config"):
        found_head(file)
    (tmp_path / "ddq.py").write_text(CONFIGS["DDQDETR"])
    assert found_head(file, config=tmp_path / "ddq.py").outputs == ("boxes", "scores", "labels")


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("DDQDETR", ("'DDQDETR'", "'DINO'"), "describes a 'DINO'; known from MMDetection are DDQDETR, Mask2Former"),
        ("DDQDETR", ("'GIoULoss'", "'subprocess.Popen'"), "'subprocess.Popen' as 'loss_iou', .*GIoULoss"),
        ("DDQDETR", ("'nms'", "'__import__(1)'"), "dqs_cfg is .*only .*nms.* is known"),
        ("DDQDETR", ("iou_threshold=0.8", "iou_threshold=0.8, max_num=3"), "dqs_cfg is"),
        ("DDQDETR", ("'DDQDETRHead'", "'DINOHead'"), "'DINOHead' where only DDQDETRHead is known"),
        ("DDQDETR", ("test_cfg=dict(max_per_img=30)", "test_cfg=3"), "test_cfg says 3 where max_per_img"),
        ("DDQDETR", ("max_per_img=30", "max_per_img=True"), "says True where .* whole number above 0"),
        ("DDQDETR", ("max_per_img=30", "max_per_img=0"), "says 0 where"),
        ("DDQDETR", ("max_per_img=30", "max_per_img='x'"), "says 'x' where"),
        ("DDQDETR", ("encoder=dict(", "encoder=dict(type='GN', "), "'GN' as 'encoder', and allowed there: no type"),
        ("DDQDETR", ("'DDQDETR'", "'" + "x" * 9999 + "'"), "describes a 'x{79}; known"),
        ("DDQDETR", ("use_sigmoid=True", "use_sigmoid=False"), "Only a DDQ-DETR with sigmoid scores"),
        ("DDQDETR", ("iou_threshold=0.8", "iou_threshold=1.5"), "dqs_cfg is"),
        ("Mask2Former", ("'Mask2FormerHead'", "'MaskFormerHead'"), "'MaskFormerHead' where only Mask2FormerHead"),
        ("Mask2Former", ("'MSDeformAttnPixelDecoder'", "'PixelDecoder'"), "only MSDeformAttnPixelDecoder is known"),
        ("Mask2Former", ("num_stuff_classes=num_stuff_classes, num_queries=20,", ""), "makes no Mask2FormerHead"),
    ],
)
def test_configurations_that_are_refused(
    kind: str, change: tuple[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_mmdetection.install(monkeypatch)
    with pytest.raises(UserError, match=message):
        found_head(fake_file(tmp_path, kind, change))


HUGE = [
    ("DDQDETR", ("num_layers=3", "num_layers=1000000000"), r"says 1e\+09 as 'num_layers', where .* 1 to 64 "),
    ("DDQDETR", ("num_layers=3", "num_layers=-1"), "says -1 as 'num_layers'"),
    ("DDQDETR", ("num_queries=40", "num_queries=20001"), "says 20001 as 'num_queries'"),
    ("DDQDETR", ("max_per_img=30", "max_per_img=1000000"), r"says 1e\+06 as 'max_per_img'"),
    ("DDQDETR", ("num_classes=7", "num_classes=70000"), "says 70000 as 'num_classes', where .* -65536 to 65536"),
    ("DDQDETR", ("ffn_drop=0.0", "ffn_drop=-1000000.0"), r"says -1e\+06 as 'ffn_drop'"),
    ("Mask2Former", ("num_points=4", "num_points=99"), "says 99 as 'num_points'"),
    ("Mask2Former", ("feat_channels=32", "feat_channels=1000000"), r"says 1e\+06 as 'feat_channels'"),
    ("Mask2Former", ("strides=[4, 8, 16, 32]", "strides=[4] * 1000"), "says 1000 entries as 'strides', .* at most 64"),
    ("Mask2Former", ("panoptic_head", "neck=dict(num_outs=17),\n    panoptic_head"), "says 17 as 'num_outs'"),
]


@pytest.mark.parametrize(("kind", "change", "message"), HUGE)
def test_sizes_beyond_all_detectors_are_refused_before_anything_is_built(
    kind: str, change: tuple[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_mmdetection.install(monkeypatch)
    with pytest.raises(UserError, match=message):
        found_head(fake_file(tmp_path, kind, change))


def test_a_huge_configuration_is_the_users_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_mmdetection.install(monkeypatch)
    file, target = fake_file(tmp_path, "DDQDETR", ("num_queries=40", "num_queries=400000")), tmp_path / "model.onnx"
    assert main(["export", str(file), "--input-size", "101x163", "--head", "mmdet", "-o", str(target)]) == 2
    message = capsys.readouterr().err
    assert "400000 as 'num_queries'" in message and "Traceback" not in message and not target.exists()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Mask2Former", ("panoptic_head", "neck=dict(type='Forbidden'),\n    panoptic_head")),
        ("Mask2Former", ("'DiceLoss'", "'Forbidden'")),
        ("DDQDETR", ("'GIoULoss'", "'Forbidden'")),
        ("DDQDETR", ("positional_encoding=dict(", "positional_encoding=dict(type='Forbidden', ")),
    ],
)
def test_not_all_that_is_registered_is_built(
    kind: str, change: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_mmdetection.install(monkeypatch)
    monkeypatch.setattr(fake_mmdetection.Forbidden, "built", 0)
    with pytest.raises(UserError, match="names 'Forbidden' as .* allowed there: "):
        found_head(fake_file(tmp_path, kind, change))
    assert fake_mmdetection.Forbidden.built == 0


def test_weights_that_do_not_fit_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_mmdetection.install(monkeypatch)
    more = {"panoptic_head.new.bias": torch.zeros(1), "panoptic_head.cls_embed.bias": torch.zeros(9)}
    with pytest.raises(UserError, match=r"panoptic_head\.new\.bias\) not part of.*shape \(\[9\], not \[8\]\)"):
        found_head(fake_file(tmp_path, "Mask2Former", **more))
    parts = {key: value for key, value in fake_weights("DDQDETR").items() if "layers.2" not in key}
    file = detector_file(tmp_path / "less.pth", CONFIGS["DDQDETR"], parts, "DDQDETR")
    with pytest.raises(UserError, match=r"2 tensors \(decoder\.layers\.2\.value_proj\.weight, .*\) missing"):
        found_head(file)


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_mmdetection.install(monkeypatch, version="2.28.2")
    with pytest.raises(UserError, match=r"MMDetection 2\.28\.2 is installed, and version 3 is needed"):
        found_head(fake_file(tmp_path, "DDQDETR"))


def test_without_the_library_the_rest_is_exported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mmdet", None)
    file = fake_file(tmp_path, "DDQDETR")
    assert [output.name for output in export(file, input_size=SIZE).graph.output] == ["p3", "p4", "p5", "p6"]
    target = tmp_path / "model.onnx"
    arguments = [str(file), "--input-size", "101x163", "--head", "mmdet", "-o", str(target)]
    assert main(["export", *arguments]) == 2
    message = capsys.readouterr().err
    assert "MMDetection cannot be used" in message and "leave --head out" in message and not target.exists()


def test_heads_need_a_detectors_checkpoint() -> None:
    with pytest.raises(UserError, match="a model in memory was given"):
        export(small_backbone("DDQDETR"), input_size=SIZE, head="mmdet")
    with pytest.raises(UserError, match="It is no detector's backbone"):
        export(small_model("channel"), head="mmdet")


def fake_detector() -> fake_mmdetection.Detector:
    options: dict[str, Any] = {"bbox_head": {"num_classes": 7, "loss_cls": {"use_sigmoid": True}}, "test_cfg": None}
    options.update(backbone={"type": torch.nn.Identity}, decoder={"num_layers": 2})
    return fake_mmdetection.Detector(**options)


def by_score(boxes: Tensor, scores: Tensor, classes: Tensor, rule: object) -> tuple[Tensor, Tensor]:
    """Drops nothing."""
    order = scores.argsort(descending=True, stable=True)
    return boxes[order], order


def test_given_choices_are_followed_and_what_they_are_among_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_mmdetection, "batched_nms", by_score, raising=False)
    boxes, scores = torch.tensor([[0.0, 0, 1, 1], [2.0, 0, 3, 1], [4.0, 0, 5, 1]]), torch.tensor([0.2, 0.9, 0.5])
    choices, noted = iter([(3, np.array([1, 2])), (3, np.array([2, 1])), (2, np.array([0]))]), []

    def ask(count: int) -> list[int]:
        rule = {"type": "nms", "iou_threshold": 0.8}
        return fake_mmdetection.batched_nms(boxes[:count], scores[:count], torch.ones(count), rule)[1].tolist()  # type: ignore[attr-defined]

    with mmdetection_heads._suppressing(
        fake_detector(), lambda suppress: mmdetection_heads._given(suppress, choices, 2, noted)
    ):
        assert ask(3) == [1, 2] and ask(3) == [2, 1]
        with pytest.raises(UserError, match="among 2 boxes, and 3 take part"):
            ask(3)
        with pytest.raises(UserError, match="among 0 boxes, and 3 take part"):
            ask(3)
    assert [(one.own, one.overlap, one.most) for one in noted] == [(True, 0.8, 2), (False, 0.8, 2)]
    # As mmcv moves the boxes of the first class.
    torch.testing.assert_close(noted[0].boxes, boxes + 6)
    torch.testing.assert_close(noted[1].scores, scores)
    assert noted[1].kept.tolist() == [2, 1]


def test_of_boxes_that_score_alike_the_first_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the library's sort does with ties."""

    def last_of_ties(boxes: Tensor, scores: Tensor, classes: Tensor, rule: object) -> tuple[None, Tensor]:
        backwards = torch.arange(len(scores) - 1, -1, -1)
        order = backwards[scores[backwards].argsort(descending=True, stable=True)]
        kept: list[int] = []
        for i in order.tolist():
            if not any(torch.equal(boxes[i], boxes[j]) for j in kept):
                kept.append(i)
        return None, torch.tensor(kept)

    monkeypatch.setattr(fake_mmdetection, "batched_nms", last_of_ties, raising=False)
    boxes = torch.tensor([[0.0], [1.0], [1.0], [2.0], [1.0]])
    scores = torch.tensor([0.1, 0.5, 0.5, 0.9, 0.5])
    with mmdetection_heads._suppressing(fake_detector(), mmdetection_heads._first_of_ties):
        chosen = fake_mmdetection.batched_nms(boxes, scores, torch.ones(5), {})[1]  # type: ignore[attr-defined]
    assert chosen.tolist() == [3, 1, 0]
    assert fake_mmdetection.batched_nms is last_of_ties  # type: ignore[attr-defined]
    assert last_of_ties(boxes, scores, torch.ones(5), {})[1].tolist() == [3, 4, 0]


def test_torchvisions_heads_need_no_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, target = fake_file(tmp_path, "DDQDETR"), tmp_path / "model.onnx"
    assert main(["export", str(file), "--head", "torchvision", "-o", str(target)]) == 2
    message = capsys.readouterr().err
    assert "whole without it" in message and "Leave --head out" in message and not target.exists()


def library_file(path: Path, kind: str) -> Path:
    """A checkpoint with random weights of the library's own head."""
    pytest.importorskip("mmdet")
    pytest.importorskip("mmcv._ext")
    pytest.importorskip("onnxscript")
    import mmdet.models  # noqa: F401  (registers them)
    from laudnet.config_text import read_config_text
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    model = read_config_text(CONFIGS[kind])["model"]
    torch.manual_seed(0)
    if kind == "DDQDETR":
        del model["encoder"]["num_cp"], model["decoder"]["num_cp"], model["data_preprocessor"]
        detector = MODELS.build(ConfigDict({**model, "backbone": {"type": torch.nn.Identity}, "train_cfg": None}))
    else:
        detector = torch.nn.Module()
        head = {**model["panoptic_head"], "train_cfg": None, "test_cfg": None}
        detector.panoptic_head = MODELS.build(ConfigDict(head))
    with torch.no_grad():
        for name, value in detector.named_parameters():
            if value.dim() > 1:
                value.copy_(torch.randn(value.shape) / value[0].numel() ** 0.5)
            elif "norm" not in name and ".gn." not in name:
                value.add_(torch.randn(value.shape) * 0.1)
    parts = {key: value for key, value in detector.state_dict().items() if not key.startswith("neck.")}
    if kind == "DDQDETR":
        again = detector.bbox_head.aux_reg_branches.state_dict()
        parts.update({f"decoder.aux_reg_branches.{key}": value for key, value in again.items()})
    return detector_file(path, CONFIGS[kind], parts, kind)


def library_finds(file: Path, kind: str, x: Tensor) -> list[np.ndarray]:
    """What the library's own code computes from our backbone's maps."""
    head = find_head("mmdet", file, None, load_source(file), (x.shape[2], x.shape[3]))
    with torch.no_grad():
        found = head.module(*small_backbone(kind).outputs(x))
    if kind == "DDQDETR":
        layers = [mask[0] for mask in head.module.detector.cache_dict["distinct_query_mask"]]
        assert len(layers) == 2 and all(bool(mask.any()) for mask in layers)
    return [y.numpy() for y in found]


@pytest.mark.parametrize("size", [SIZE, (96, 128)])
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_graph_computes_what_the_library_does(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    file = library_file(tmp_path / "detector.pth", kind)
    graph = export(file, input_size=size, head="mmdet")
    onnx.checker.check_model(graph, full_check=True)
    assert {node.domain for node in graph.graph.node} == {"", "ai.laudc"}
    for seed in range(3):
        x = noise(1, 3, *size, seed=seed)
        wanted = library_finds(file, kind, x)
        for ours, theirs in zip(run_onnxruntime(graph, {"input": x.numpy()}), wanted, strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * max(1.0, float(np.abs(theirs).max())))
    assert len(run_onnxruntime(dense_twin(graph), {"input": x.numpy()})) == len(wanted)


def test_the_library_follows_the_choices_of_an_engine(tmp_path: Path, native: None) -> None:
    file, engine = library_file(tmp_path / "detector.pth", "DDQDETR"), tmp_path / "detector.laudc"
    graph = export(file, input_size=SIZE, head="mmdet")
    laudc.build_engine(graph, engine)
    onnx.save(graph, tmp_path / "model.onnx")
    theirs = open_network(file, head="mmdet", size=SIZE)
    image = noise(1, 3, *SIZE).numpy()
    assert theirs.can_be_led
    for target in (open_network(engine), open_network(tmp_path / "model.onnx")):
        choices = target.chosen(image)
        assert choices is not None and len(choices.lists) == 3 and len(choices.lists[0][1]) == 40
        np.testing.assert_array_equal(choices.outputs, target.run(image).logits[0])
        led = theirs.led(image, choices)
        assert led is not None and led.margin < 1e-5
        np.testing.assert_allclose(led.outputs, choices.outputs, atol=1e-2, rtol=1e-4)
        # The last two the other way round: as far as their scores are apart.
        (count, kept), *others = choices.lists
        other = replace(choices, lists=((count, np.array([*kept[:-2], kept[-1], kept[-2]])), *others))
        turned = theirs.led(image, other)
        assert turned is not None and turned.margin > 1e-5
        # Among other boxes there is nothing to follow.
        assert theirs.led(image, replace(choices, lists=((count - 1, kept), *others))) is None


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_engine_is_verified_and_draws(
    kind: str, tmp_path: Path, photos: Path, native: None, capsys: pytest.CaptureFixture[str]
) -> None:
    file, engine = library_file(tmp_path / "detector.pth", kind), tmp_path / "detector.laudc"
    laudc.build_engine(export(file, input_size=SIZE, head="mmdet"), engine)
    with laudc.load_engine(engine) as loaded:
        assert loaded.manifest.config["num_classes"] == CLASSES
    assert main(["run", str(engine), str(photos), "--score", "0.001", "--draw", str(tmp_path / "found")]) == 0
    assert len(list((tmp_path / "found").iterdir())) == 3
    arguments = ["verify", str(engine), "--reference", str(file)]
    assert main([*arguments, "--head", "mmdet"]) == 0
    capsys.readouterr()
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert "Nothing was compared" in message and "Give --head" in message
    content = torch.load(file, weights_only=True)
    name = "bbox_head.cls_branches.2.bias" if kind == "DDQDETR" else "panoptic_head.cls_embed.bias"
    content["state_dict"][name] = content["state_dict"][name] + 0.3
    torch.save(content, file)
    assert main([*arguments, "--head", "mmdet"]) == 3
