"""Reading pictures, scaling, turning and recolouring them: properties, and errors that name the file."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from darkbn import images
from darkbn.errors import ImageError
from darkbn.imageio import source_name

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)


def image(c: int, h: int, w: int) -> np.ndarray:
    return np.random.default_rng(c * h * w).random((c, h, w), dtype=np.float32)


# Reading


def written(picture: Image.Image, form: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, form, **options)
    file.seek(0)
    return file


def png16(values: np.ndarray) -> io.BytesIO:
    """A PNG file of 16 bits per channel, grey (h, w) or RGB (h, w, 3)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    h, w = values.shape[:2]
    header = struct.pack(">IIBBBBB", w, h, 16, 0 if values.ndim == 2 else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks))


def test_colours_grey_and_alpha() -> None:
    grey, alpha = COLOURS[:, :, 0], RNG.integers(0, 256, (6, 5), dtype=np.uint8)
    rgba = np.dstack([COLOURS, alpha])
    for source in (COLOURS, Image.fromarray(COLOURS), written(Image.fromarray(COLOURS), "PNG")):
        assert np.array_equal(images.read_pixels(source), COLOURS)
    for source in (grey, grey[:, :, None], Image.fromarray(grey), written(Image.fromarray(grey), "BMP")):
        assert np.array_equal(images.read_pixels(source), np.dstack([grey] * 3))
        assert np.array_equal(images.read_pixels(source, 0), grey[:, :, None])
    for source in (rgba, Image.fromarray(rgba), written(Image.fromarray(rgba), "PNG")):
        assert np.array_equal(images.read_pixels(source), COLOURS), "alpha is dropped, not composited"
        assert np.array_equal(images.read_pixels(source, 0), rgba)
    assert np.array_equal(images.read_pixels(COLOURS, 4), np.dstack([COLOURS, np.full((6, 5), 255)]))


def test_grey_with_alpha_keeps_both_on_request() -> None:
    grey, alpha = COLOURS[:, :, 0], COLOURS[:, :, 1]
    source = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    assert np.array_equal(images.read_pixels(source), np.dstack([grey] * 3))
    assert np.array_equal(images.read_pixels(source, 1), grey[:, :, None])
    assert np.array_equal(images.read_pixels(source, 4), np.dstack([grey] * 3 + [alpha]))


def test_colours_become_grey_as_in_stb() -> None:
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 20, 30]]], np.uint8)
    expected = [(77 * r + 150 * g + 29 * b) >> 8 for r, g, b in pixels[0].astype(int)]
    assert images.read_pixels(pixels, 1).ravel().tolist() == expected


def test_palettes_become_colours() -> None:
    palette = Image.fromarray(COLOURS).quantize(256)
    assert palette.mode == "P"
    assert np.array_equal(images.read_pixels(written(palette, "PNG")), np.asarray(palette.convert("RGB")))
    see_through = written(palette, "PNG", transparency=3)
    assert np.array_equal(images.read_pixels(see_through), np.asarray(palette.convert("RGB")))
    assert images.read_pixels(Image.new("1", (3, 2), 1)).tolist() == [[[255] * 3] * 3] * 2


def test_sixteen_bits_keep_the_high_byte() -> None:
    grey, colours = RNG.integers(0, 65536, (4, 3)), RNG.integers(0, 65536, (4, 3, 3))
    assert np.array_equal(images.read_pixels(png16(grey), 1)[:, :, 0], grey >> 8)
    assert np.array_equal(images.read_pixels(png16(grey)), np.dstack([grey >> 8] * 3))
    assert np.array_equal(images.read_pixels(png16(colours)), colours >> 8)
    tiff = written(Image.fromarray(grey.astype(np.uint16)), "TIFF")
    assert np.array_equal(images.read_pixels(tiff, 1)[:, :, 0], grey >> 8)


def test_cmyk_becomes_rgb() -> None:
    smooth = Image.fromarray(COLOURS).resize((64, 48))
    found = images.read_pixels(written(smooth.convert("CMYK"), "JPEG", quality=100, subsampling=0))
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(int) - np.asarray(smooth)).max() <= 6


def test_exif_orientation_only_on_request() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    data = written(Image.fromarray(COLOURS), "PNG", exif=exif).getvalue()
    assert np.array_equal(images.read_pixels(io.BytesIO(data)), COLOURS)
    assert np.array_equal(images.read_pixels(io.BytesIO(data), exif=True), np.rot90(COLOURS, -1))


def test_animations_give_their_first_frame() -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    file = written(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(images.read_pixels(file)[0, 0], (255, 0, 0))


def test_reading_leaves_open_files_open(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    images.save_picture(Image.fromarray(COLOURS), path)
    with path.open("rb") as file:
        images.read_pixels(file)
        assert not file.closed
    picture = Image.open(path)
    assert np.array_equal(images.read_pixels(picture), images.read_pixels(picture))
    picture.close()


def test_load_image_is_bytes_over_255() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(images.load_image(every)[1], (every / 255).astype(np.float32))
    loaded = images.load_image(COLOURS)
    assert loaded.dtype == np.float32
    assert np.array_equal(images.to_pixels(loaded), COLOURS)
    assert np.array_equal(images.load_image(loaded.astype(np.float64)), loaded), "an image stays what it is"


def broken_files() -> dict[str, tuple[bytes, str]]:
    jpeg = written(Image.fromarray(COLOURS).resize((300, 200)), "JPEG").getvalue()
    png = written(Image.fromarray(COLOURS), "PNG").getvalue()
    gif = written(Image.fromarray(COLOURS), "GIF").getvalue()
    return {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"not an image at all", "not a format"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "head.jpg": (jpeg[:100], ""),
        "cut.png": (png[: len(png) - 30], ""),
        "wrong.png": (png[:50] + b"\0" * 20 + png[70:], ""),
        "cut.gif": (gif[: len(gif) // 2], ""),
        "zero.bmp": (b"BM" + b"\0" * 52, ""),
    }


@pytest.mark.parametrize("name", broken_files())
def test_broken_files_are_named(tmp_path: Path, name: str) -> None:
    data, cause = broken_files()[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError) as caught:
        images.read_pixels(tmp_path / name)
    assert name in str(caught.value)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_folders_and_bombs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match=r"nothing\.jpg: cannot read the image: no such file"):
        images.read_pixels(tmp_path / "nothing.jpg")
    with pytest.raises(ImageError, match="a folder, not an image"):
        images.read_pixels(tmp_path)
    images.save_picture(Image.fromarray(COLOURS), tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ImageError, match=r"bomb\.png.*decompression bomb"):
        images.read_pixels(tmp_path / "bomb.png")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_else(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]))
    content = bytearray(written(Image.fromarray(COLOURS), form).getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    with contextlib.suppress(ImageError):
        assert images.read_pixels(io.BytesIO(content)).shape[2] == 3


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint16),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4), np.float32),
        np.full((3, 4, 4), np.nan),
        np.full((3, 4, 4), 255.0),
        Image.fromarray(np.zeros((4, 4), np.float32)),
        Image.new("RGB", (0, 3)),
        None,
        17,
        [[1, 2], [3, 4]],
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'shape', getattr(value, 'size', value))}",
)
def test_what_is_no_image_is_refused(wrong: Any) -> None:
    with pytest.raises(ImageError):
        images.read_image(wrong)


def test_wrong_channels_are_refused() -> None:
    with pytest.raises(ImageError, match="channels"):
        images.read_pixels(COLOURS, 2)
    with pytest.raises(ImageError, match="colours need"):
        images.rgb_to_hsv(image(1, 3, 3))
    with pytest.raises(ImageError, match="colours need"):
        images.grayscale_image(image(1, 3, 3))


def test_sources_have_names(tmp_path: Path) -> None:
    assert source_name("a/b.jpg") == "a/b.jpg"
    assert source_name(tmp_path) == str(tmp_path)
    assert source_name(COLOURS) == "<ndarray>"


# Writing


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm"])
def test_written_images_come_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    images.save_image(images.load_image(COLOURS), path)
    assert np.array_equal(images.read_pixels(path), COLOURS)
    images.save_image(images.load_image(COLOURS, 1), tmp_path / "grey.png")
    assert np.array_equal(images.read_pixels(tmp_path / "grey.png", 0), images.read_pixels(COLOURS, 1))


def test_failed_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="names no format"):
        images.save_image(image(3, 2, 2), tmp_path / "a.xyz")
    with pytest.raises(ImageError, match="names no format"):
        images.save_image(image(3, 2, 2), tmp_path / "a")
    with pytest.raises(ImageError, match="cannot write"):
        images.save_image(image(3, 2, 2), tmp_path / "nowhere" / "a.png")
    path = tmp_path / "a.png"
    images.save_image(image(3, 2, 2), path)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ImageFile, "_save", full)
    with pytest.raises(ImageError, match="No space left"):
        images.save_image(image(3, 9, 9), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


# Scaling

sides = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides)
def test_a_slope_stays_a_slope(w: int, h: int, new_w: int, new_h: int) -> None:
    """Bilinear scaling that keeps corners is exact on a plane, on its last row, too."""

    def ramp(source: int, target: int) -> np.ndarray:
        """0 to 1; a source of one pixel is 0 all over, a target of one pixel is the last of the source."""
        return np.linspace(0, 1, target) * (source > 1) if target > 1 else np.array([source > 1])

    slope = (0.25 + 0.5 * ramp(w, w) + 0.25 * ramp(h, h)[:, None])[None]
    expected = 0.25 + 0.5 * ramp(w, new_w) + 0.25 * ramp(h, new_h)[:, None]
    found = images.resize_image(slope.astype(np.float32), new_w, new_h)
    assert found.shape == (1, new_h, new_w)
    assert np.allclose(found[0], expected, atol=2e-6)


@pytest.mark.parametrize(("h", "new_h"), [(29, 24), (29, 47), (29, 84), (5, 100), (576, 416)])
def test_the_last_row_is_the_last_row(h: int, new_h: int) -> None:
    x = image(3, h, 7)
    assert np.array_equal(images.resize_image(x, 7, new_h)[:, -1], x[:, -1])


@settings(max_examples=40, deadline=None)
@given(sides, sides, sides, sides, st.sampled_from([1, 3, 4]))
def test_bytes_scale_as_images_do(w: int, h: int, new_w: int, new_h: int, c: int) -> None:
    pixels = np.random.default_rng(w * h).integers(0, 256, (h, w, c), dtype=np.uint8)
    for scale in (images.resize_image, images.letterbox_image):
        fast, slow = scale(pixels, new_w, new_h), scale(images.load_image(pixels, c), new_w, new_h)
        assert np.abs(fast - slow).max() <= 3e-7


def test_equal_sizes_copy() -> None:
    x = image(3, 29, 37)
    same = images.resize_image(x, 37, 29)
    assert np.array_equal(same, x)
    assert not np.shares_memory(same, x)
    assert np.array_equal(images.resize_image(COLOURS, 5, 6), images.load_image(COLOURS))


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides)
def test_letterboxes_keep_the_aspect(w: int, h: int, net_w: int, net_h: int) -> None:
    left, top, inner_w, inner_h = images.letterbox_window(w, h, net_w, net_h)
    assert inner_w == net_w or inner_h == net_h
    assert (left, top) == ((net_w - inner_w) // 2, (net_h - inner_h) // 2)
    assert 1 <= inner_w <= net_w
    assert 1 <= inner_h <= net_h
    assert inner_w == 1 or inner_h == 1 or abs(inner_w / w - inner_h / h) < 1 / min(w, h)
    x = image(1, h, w)
    boxed = images.letterbox_image(x, net_w, net_h)
    inner = (slice(None), slice(top, top + inner_h), slice(left, left + inner_w))
    assert np.array_equal(boxed[inner], images.resize_image(x, inner_w, inner_h))
    boxed[inner] = 0.5
    assert (boxed == 0.5).all()


def test_sides_are_scaled_as_asked() -> None:
    x = image(3, 40, 30)
    assert images.resize_min(x, 15).shape == (3, 20, 15)
    assert images.resize_max(x, 20).shape == (3, 20, 15)
    assert images.resize_min(x.transpose(0, 2, 1), 15).shape == (3, 15, 20)
    assert np.array_equal(images.center_crop_image(x, 30, 30), x[:, 5:35])
    assert np.array_equal(
        images.center_crop_image(images.to_pixels(x), 30, 30), images.load_image(images.to_pixels(x))[:, 5:35]
    )


def test_pictures_without_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match="no pixels"):
        images.resize_image(np.zeros((3, 0, 4), np.float32), 2, 2)


def test_pixels_of_a_view_are_read_right() -> None:
    """A slice of a camera's frame is not contiguous."""
    frame = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    view = frame[2:12, 3:20, ::-1]
    assert np.array_equal(images.resize_image(view, 9, 7), images.resize_image(view.copy(), 9, 7))
    assert np.array_equal(images.load_image(view), images.load_image(view.copy()))


# Cutting and turning


def test_crops_repeat_the_edge() -> None:
    x = image(2, 3, 4)
    assert np.array_equal(images.crop_image(x, 1, 1, 2, 2), x[:, 1:3, 1:3])
    padded = np.pad(x, ((0, 0), (2, 4), (1, 3)), mode="edge")
    assert np.array_equal(images.crop_image(x, -1, -2, 8, 9), padded)
    pixels = images.to_pixels(x)
    assert np.array_equal(images.crop_image(pixels, -1, -2, 8, 9), images.to_pixels(padded))


def test_quarter_turns_and_mirrors_undo_themselves() -> None:
    x = image(3, 7, 7)
    assert np.array_equal(images.rotate_image_cw(images.rotate_image_cw(x, 1), 3), x)
    assert np.array_equal(images.rotate_image_cw(x, 2), x[:, ::-1, ::-1])
    assert np.array_equal(images.flip_image(images.flip_image(x)), x)
    assert np.array_equal(images.rgbgr_image(x)[0], x[2])


def test_turning_round_the_centre() -> None:
    x = image(3, 8, 8)
    assert np.allclose(images.rotate_image(x, 0), x, atol=1e-6)
    half = images.rotate_image(x, np.pi)
    assert np.allclose(half[:, 1:, 1:], x[:, :0:-1, :0:-1], atol=1e-5), "pixel i goes to 8 - i"
    assert np.array_equal(images.rotate_crop_image(x, 0, 1, 3, 3, 100, 0, 1), np.zeros((3, 3, 3)))
    shifted = images.rotate_crop_image(x, 0, 1, 8, 8, 2, -1, 1)
    assert np.allclose(shifted[:, 1:, :6], x[:, :7, 2:], atol=1e-6)


# Colours


def test_pure_colours_and_greys() -> None:
    names = {(1, 0, 0): 0, (1, 1, 0): 1 / 6, (0, 1, 0): 2 / 6, (0, 1, 1): 3 / 6, (0, 0, 1): 4 / 6, (1, 0, 1): 5 / 6}
    rgb = np.array(list(names), np.float32).T[:, None]
    hsv = images.rgb_to_hsv(rgb)
    assert np.allclose(hsv[0, 0], list(names.values()), atol=1e-7)
    assert (hsv[1:] == 1).all()
    greys = np.array([[[0, 0.25, 1]]] * 3, np.float32)
    assert np.array_equal(images.rgb_to_hsv(greys)[:2], np.zeros((2, 1, 3)))
    assert np.array_equal(images.hsv_to_rgb(images.rgb_to_hsv(greys)), greys)
    assert np.array_equal(images.hsv_to_rgb(np.ones((3, 1, 1), np.float32)).ravel(), [1, 0, 0]), "a whole turn is red"


def test_colours_come_back() -> None:
    x = image(3, 17, 13)
    assert np.allclose(images.hsv_to_rgb(images.rgb_to_hsv(x)), x, atol=1e-6)
    assert np.allclose(images.hue_image(images.hue_image(x, 0.3), -0.3), x, atol=2e-6)
    assert np.allclose(images.distort_image(x, 0, 1, 1), x, atol=1e-6)


def test_distortions_do_what_they_say() -> None:
    x = image(3, 9, 11)
    before = x.copy()
    assert np.allclose(images.exposure_image(x, 0.5), x / 2, atol=1e-6)
    assert np.allclose(images.saturate_image(x, 0), np.broadcast_to(x.max(axis=0), x.shape), atol=1e-6)
    assert np.allclose(images.hue_image(x, 1 / 3), x[[2, 0, 1]], atol=2e-6)
    together = images.saturate_exposure_image(x, 0.7, 0.6)
    assert np.allclose(together, images.exposure_image(images.saturate_image(x, 0.7), 0.6), atol=1e-6)
    bright = images.distort_image(x, 0.1, 1.7, 3)
    assert bright.min() >= 0
    assert bright.max() == 1
    assert np.allclose(images.distort_image(x[:1], 0.5, 9, 0.5), x[:1] / 2), "without colours only the exposure counts"
    assert np.array_equal(x, before), "images given are never changed"


def test_values() -> None:
    x = image(3, 4, 5)
    assert np.allclose(images.grayscale_image(x)[0], 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2])
    normal = images.normalize_image(x)
    assert (normal.min(), normal.max()) == (0, 1)
    assert np.array_equal(images.normalize_image(np.full((1, 2, 2), 0.3)), np.full((1, 2, 2), 0.3))
    assert np.array_equal(images.threshold_image(x, 0.5), x > 0.5)
    assert np.array_equal(images.constrain_image(images.scale_image(x, 3)), np.minimum(3 * x, 1))
    assert np.allclose(images.translate_image(x, 0.25), x + 0.25)
