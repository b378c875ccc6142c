"""Activation statistics: what is kept, written, read and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from laudc.errors import UserError
from laudc.predict.activation import activation_at_rate, activation_from_masks, load_activation
from tests.predict.models import SMALL

BLOCKS = SMALL.blocks()


def _measured():
    found = {"nms.kept": np.arange(5)}
    return activation_from_masks(activation_at_rate(BLOCKS, 0.4, images=5).masks, "five images", "a" * 64, found)


def test_a_file_holds_every_decision(tmp_path) -> None:
    path = tmp_path / "stats.json"
    path.write_bytes(_measured().to_json())
    read = load_activation(path, BLOCKS, "a" * 64)
    assert read.images == 5
    assert read.measured
    assert set(read.masks) == set(_measured().masks)
    assert all((read.masks[name] == mask).all() for name, mask in _measured().masks.items())
    assert {name: counts.tolist() for name, counts in read.found.items()} == {"nms.kept": [0, 1, 2, 3, 4]}


def test_files_of_before_say_nothing_of_what_is_found(tmp_path) -> None:
    path = tmp_path / "stats.json"
    data = json.loads(_measured().to_json())
    del data["found"]
    path.write_text(json.dumps(data))
    assert load_activation(path, BLOCKS, "a" * 64).found == {}


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1.0])
def test_a_rate_is_kept_in_every_image(rate) -> None:
    for name, mask in activation_at_rate(BLOCKS, rate, images=50).masks.items():
        shares = mask.reshape(50, -1).mean(axis=1)
        if mask[0].size == 1:  # a layer: a coin flip per image
            assert abs(shares.mean() - rate) < 0.25
        else:
            assert np.allclose(shares, shares[0])
            assert abs(shares[0] - rate) <= 0.5 / mask[0].size + 1e-9, name


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_impossible_rates(rate) -> None:
    with pytest.raises(UserError, match="impossible"):
        activation_at_rate(BLOCKS, rate)


def test_statistics_of_another_model_are_refused(tmp_path) -> None:
    path = tmp_path / "stats.json"
    path.write_bytes(_measured().to_json())
    with pytest.raises(UserError, match="another model"):
        load_activation(path, BLOCKS, "b" * 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(model_sha256=None), r"does not say which model .* \('model_sha256'\)"),
        (lambda data: data.pop("model_sha256"), "does not say which model"),
        (lambda data: data.update(model_sha256=3), "does not say which model"),
        (lambda data: data.update(images=0), "'images'"),
        (lambda data: data.update(found=[]), "'found' is not a mapping"),
        (lambda data: data["found"].update({"nms.kept": [1, 2]}), "'nms.kept' is not one count for each of 5"),
        (lambda data: data["found"].update({"nms.kept": [1, 2, 3, 4, -5]}), "'nms.kept'"),
        (lambda data: data["found"].update({"nms.kept": [1, 2, 3, 4, 1.5]}), "'nms.kept'"),
        (lambda data: data["found"].update({"nms.kept": [1, 2, 3, 4, True]}), "'nms.kept'"),
        (lambda data: data["found"].update({"nms.kept": 7}), "'nms.kept'"),
        (lambda data: data.update(images=True), "'images'"),
        (lambda data: data.update(source={"a": 1}), "'source' is not a line of text"),
        (lambda data: data.update(source="a\x1b[31m"), "'source' is not a line of text"),
        (lambda data: data.update(kind="profile"), "kind"),
        (lambda data: data.update(masks=[]), "no masks"),
        (lambda data: data["masks"]["layer1.0.mask_spatial"].update(bits="!"), "not base64"),
        (lambda data: data["masks"]["layer1.0.mask_spatial"].update(bits="AAAA"), "bytes of bits"),
        (lambda data: data["masks"]["layer1.0.mask_spatial"].update(shape=[1, 2, 2]), "shape"),
        (lambda data: data["masks"].pop("layer1.0.mask_spatial"), "shape None"),
    ],
)
def test_damaged_files(tmp_path, change, words) -> None:
    data = json.loads(_measured().to_json())
    change(data)
    path = tmp_path / "stats.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=words):
        load_activation(path, BLOCKS, "a" * 64)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"[" * 100000])
def test_files_that_are_no_statistics(tmp_path, content) -> None:
    path = tmp_path / "stats.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no usable activation"):
        load_activation(path, BLOCKS, "a" * 64)
    with pytest.raises(UserError, match="Cannot read"):
        load_activation(tmp_path / "missing.json", BLOCKS, "a" * 64)
