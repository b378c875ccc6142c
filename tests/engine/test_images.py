"""Image files of every kind a user may have."""

import numpy as np
import pytest
from PIL import Image

from laudc.engine.images import Preprocess, find_images, load_image, load_images
from laudc.errors import UserError

PLAIN = Preprocess(size=(8, 8), resize=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def save(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options) if mode is None else Image.fromarray(array).convert(
        mode
    ).save(path, **options)
    return path


@pytest.fixture
def colours():
    array = np.zeros((8, 8, 3), np.uint8)
    array[..., 0], array[..., 1], array[..., 2] = 255, 128, 0
    return array


def test_rgb_is_scaled_and_channels_come_first(tmp_path, colours):
    got = load_image(save(tmp_path / "a.png", colours), PLAIN)
    assert got.dtype == np.float32 and got.shape == (3, 8, 8) and got.flags.c_contiguous
    assert np.allclose(got[:, 0, 0], [1, 128 / 255, 0])


def test_normalisation(tmp_path, colours):
    path = save(tmp_path / "a.png", colours)
    got = load_image(path, Preprocess((8, 8), 8, (0.5, 0.25, 0.0), (0.5, 2.0, 1.0)))
    assert np.allclose(got[:, 0, 0], [1.0, (128 / 255 - 0.25) / 2, 0.0])


def test_grey_is_repeated(tmp_path):
    got = load_image(save(tmp_path / "a.png", np.full((8, 8), 51, np.uint8)), PLAIN)
    assert np.allclose(got, 0.2)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    got = load_image(save(tmp_path / "a.png", ramp), PLAIN)
    assert np.abs(got[0] - ramp / 65535).max() < 0.5 / 255 + 1e-6
    assert np.array_equal(got[0], got[2])


def test_sixteen_bit_tiff(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    got = load_image(save(tmp_path / "a.tiff", ramp), PLAIN)
    assert np.abs(got[1] - ramp / 65535).max() < 0.5 / 255 + 1e-6


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "LA", "1"])
def test_other_colour_models_are_converted(tmp_path, colours, mode):
    suffix = "tiff" if mode == "CMYK" else "png"
    path = save(tmp_path / f"a.{suffix}", colours, mode)
    wanted = np.asarray(Image.open(path).convert("RGB"), np.float32).transpose(2, 0, 1) / 255
    assert np.allclose(load_image(path, PLAIN), wanted)


def test_floating_point_pixels_are_refused(tmp_path):
    path = save(tmp_path / "a.tiff", np.ones((8, 8), np.float32))
    with pytest.raises(UserError, match=r"a\.tiff.*'F'"):
        load_image(path, PLAIN)


def test_exif_orientation_turns_the_image_upright(tmp_path):
    array = np.zeros((8, 8, 3), np.uint8)
    array[0] = 255  # a bright top row ...
    exif = Image.Exif()
    exif[0x0112] = 6  # ... stored as if the camera was held sideways
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path, exif=exif)
    got = load_image(path, PLAIN)
    assert got[0, :, -1].min() == 1 and got[0, :, 0].max() == 0


def test_shorter_side_is_resized_and_the_middle_cut(tmp_path):
    array = np.zeros((40, 80, 3), np.uint8)
    array[:, 30:50] = 255
    got = load_image(save(tmp_path / "a.png", array), Preprocess((8, 8), 10, (0, 0, 0), (1, 1, 1)))
    assert got[0, 4, 4] == 1 and got[0, 4, 0] < 0.5


def test_without_resize_the_size_must_fit(tmp_path, colours):
    keep = Preprocess((8, 8), None, (0, 0, 0), (1, 1, 1))
    assert load_image(save(tmp_path / "a.png", colours), keep).shape == (3, 8, 8)
    with pytest.raises(UserError, match=r"b\.png has the wrong size.*8x9"):
        load_image(save(tmp_path / "b.png", np.zeros((9, 8, 3), np.uint8)), keep)


def test_an_absurd_strip_is_refused_before_it_is_enlarged(tmp_path):
    with pytest.raises(UserError, match="wrong size"):
        load_image(save(tmp_path / "a.png", np.zeros((1, 4000, 3), np.uint8)), PLAIN)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"GIF89a"])
def test_files_that_are_no_images(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"(?i)cannot read the image .*x\.png"):
        load_image(path, PLAIN)


def test_a_truncated_image(tmp_path, colours):
    path = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="damaged"):
        load_image(path, PLAIN)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, colours):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(UserError, match="more pixels"):
        load_image(save(tmp_path / "a.png", colours), PLAIN)


def test_folders_are_searched_and_sorted(tmp_path, colours):
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "sub/c.JPG", "a.bmp"):
        save(tmp_path / name, colours, format="PNG")
    (tmp_path / "notes.txt").write_text("no image")
    assert [path.name for path in find_images([tmp_path])] == ["a.bmp", "b.png", "c.JPG"]
    files, batch = load_images([tmp_path], PLAIN, limit=2)
    assert len(files) == 2 and batch.shape == (2, 3, 8, 8)


def test_missing_files_and_empty_folders(tmp_path):
    with pytest.raises(UserError, match="has no images"):
        find_images([tmp_path])
    with pytest.raises(UserError, match="(?i)there is no image"):
        find_images([tmp_path / "none.png"])
    with pytest.raises(UserError, match="(?i)no images to run"):
        load_images([], PLAIN)


@pytest.mark.parametrize(
    "field, value",
    [("resize", 3), ("resize", "x"), ("mean", [1]), ("std", [0, 1, 1]), ("interpolation", "magic")],
)
def test_bad_metadata_names_its_field(field, value):
    with pytest.raises(UserError, match=f"'{field}'"):
        Preprocess.from_metadata({field: value}, (8, 8))


def test_metadata_defaults_are_imagenets():
    got = Preprocess.from_metadata({}, (224, 224))
    assert got.resize == 256 and got.mean[0] == 0.485 and got.interpolation == "bilinear"
