"""Pictures as Darknet sees them: reading, scaling, turning, colours.

An *image* here is a float32 array (channel, row, column), red, green, blue, with values in 0..1: Darknet's `image`.
Functions have Darknet's names; unlike Darknet's they return a new image and leave the given one as it was. Where a
function scales, it also takes *pixels*, a uint8 array (row, column, channel) as decoders and cameras give them.
`device` names the backend that computes: with "reference" results are float64.

Differences from Darknet, all where its result is an accident:
    * resize: for some sizes Darknet's last row is nearly black; here it is the last row of the source.
    * hue: grey has hue 0, not NaN; a hue of exactly one turn is red, not magenta.
    * grayscale_image: AlexeyAB's swaps the weights of red and green.
    * letterbox_image: a very long picture keeps one pixel of width; in Darknet it vanishes.
JPEG files are decoded (darkbn.imageio) by Pillow (libjpeg), Darknet has stb_image: values differ by up to 3/255,
by .1/255 on average.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from darkbn.backend import get_backend
from darkbn.boxes import letterbox_size
from darkbn.cpu import thread_count
from darkbn.errors import ImageError
from darkbn.imageio import Source
from darkbn.imageio import read_pixels as read_pixels
from darkbn.imageio import save_picture as save_picture
from darkbn.signature import Array

# Grey of a colour image, as in pjreddie's Darknet (and in television).
_GREY = (0.299, 0.587, 0.114)


# -- reading -----------------------------------------------------------------------------------------------------------


def read_image(source: Source, channels: int = 3, *, exif: bool = False) -> Array:
    """`read_pixels`, or the source itself when it is an image already: floats (channels, h, w) in 0..1."""
    if not isinstance(source, np.ndarray) or source.dtype.kind != "f":
        return read_pixels(source, channels, exif=exif)
    if source.ndim != 3 or source.shape[0] != (channels or source.shape[0]) or 0 in source.shape:
        raise ImageError(f"an image of floats must have the shape ({channels or 'c'}, h, w), found {source.shape}")
    if not (source.min() >= -1 and source.max() <= 2):
        raise ImageError(f"an image of floats has values in 0..1, found {source.min()}..{source.max()}")
    return source


def load_image(source: Source, channels: int = 3, *, exif: bool = False, threads: int | None = None) -> Array:
    """`read_image` as an image: float32 (channels, h, w), values byte / 255 (Darknet's load_image)."""
    pixels = read_image(source, channels, exif=exif)
    if not is_pixels(pixels):
        return pixels.astype(np.float32)
    height, width, depth = pixels.shape
    image = np.empty((depth, height, width), np.float32)
    get_backend("cpu").image.planes_from_bytes(pixels, image, thread_count(threads))
    return image


def save_image(image: Array, path: str | os.PathLike[str]) -> None:
    """Write an image as a file in the format of the path's suffix; it appears whole or not at all."""
    from PIL import Image

    pixels = to_pixels(image)
    save_picture(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), path)


def to_pixels(image: Array) -> Array:
    """The image in bytes: uint8 (h, w, c), each value rounded to the nearest, clipped to 0..1."""
    scaled = np.clip(np.asarray(image, np.float32).transpose(1, 2, 0), 0, 1) * np.float32(255)
    return np.ascontiguousarray(np.rint(scaled).astype(np.uint8))


# -- scaling ---------------------------------------------------------------------------------------------------------


def is_pixels(image: Array) -> bool:
    """Whether it is uint8 (h, w, c) and not an image (c, h, w)."""
    return image.dtype == np.uint8


def image_size(image: Array) -> tuple[int, int]:
    """Width and height of an image or of pixels."""
    height, width = image.shape[:2] if is_pixels(image) else image.shape[1:]
    return width, height


def place_image(
    image: Array,
    out: Array,
    window: tuple[int, int, int, int],
    fill: float = 0.5,
    *,
    device: str = "cpu",
    threads: int | None = None,
) -> None:
    """Scale an image or pixels into a window (left, top, width, height) of `out` (c, oh, ow), the rest is `fill`."""
    backend = get_backend(device)
    resize = backend.image.resize_bytes if is_pixels(image) else backend.image.resize
    source = backend.array(image, "uint8" if is_pixels(image) else None)
    if 0 in source.shape:
        raise ImageError(f"an image of shape {image.shape} has no pixels")
    resize(source, out, *window, float(fill), thread_count(threads))


def resize_image(image: Array, w: int, h: int, *, device: str = "cpu", threads: int | None = None) -> Array:
    """The image (or pixels) scaled to w x h: bilinear, corner pixels stay corner pixels, as Darknet scales."""
    out: Array = get_backend(device).empty((_channels(image), h, w))
    place_image(image, out, (0, 0, w, h), device=device, threads=threads)
    return out


def letterbox_image(image: Array, w: int, h: int, *, device: str = "cpu", threads: int | None = None) -> Array:
    """The image (or pixels) scaled to fit into w x h with its aspect kept, in the middle, the rest is 0.5."""
    out: Array = get_backend(device).empty((_channels(image), h, w))
    place_image(image, out, letterbox_window(*image_size(image), w, h), device=device, threads=threads)
    return out


def letterbox_window(width: int, height: int, w: int, h: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of where a picture of width x height comes to lie in a letterbox of w x h."""
    inner_w, inner_h = letterbox_size(width, height, w, h)
    return (w - inner_w) // 2, (h - inner_h) // 2, inner_w, inner_h


def resize_max(image: Array, size: int, *, device: str = "cpu", threads: int | None = None) -> Array:
    """The image scaled so that its longer side has `size` pixels."""
    return _resize_side(image, size, max, device, threads)


def resize_min(image: Array, size: int, *, device: str = "cpu", threads: int | None = None) -> Array:
    """The image scaled so that its shorter side has `size` pixels."""
    return _resize_side(image, size, min, device, threads)


def _resize_side(image: Array, size: int, side: Callable[[int, int], int], device: str, threads: int | None) -> Array:
    w, h = image_size(image)
    whole = side(w, h)
    return resize_image(image, w * size // whole, h * size // whole, device=device, threads=threads)


def center_crop_image(image: Array, w: int, h: int, *, device: str = "cpu", threads: int | None = None) -> Array:
    """The largest square in the middle of an image, scaled to w x h."""
    width, height = image_size(image)
    side = min(width, height)
    return resize_image(
        crop_image(image, (width - side) // 2, (height - side) // 2, side, side), w, h, device=device, threads=threads
    )


def _channels(image: Array) -> int:
    return int(image.shape[2 if is_pixels(image) else 0])


# -- cutting and turning ---------------------------------------------------------------------------------------------


def crop_image(image: Array, dx: int, dy: int, w: int, h: int) -> Array:
    """The w x h pixels from column dx and row dy on; beyond the edges the edge repeats."""
    width, height = image_size(image)
    rows = np.arange(dy, dy + h).clip(0, height - 1)
    columns = np.arange(dx, dx + w).clip(0, width - 1)
    axis = 0 if is_pixels(image) else 1
    return np.ascontiguousarray(image.take(rows, axis).take(columns, axis + 1))


def rotate_crop_image(
    image: Array, rad: float, s: float, w: int, h: int, dx: float, dy: float, aspect: float,
    *, device: str = "cpu", threads: int | None = None,
) -> Array:  # fmt: skip
    """A w x h window on the image turned by rad round its centre and enlarged by s; 0 outside of the image.

    Args:
        image: floats (c, h, w).
        rad: angle in radians.
        s: enlargement; horizontally it is s / aspect.
        w, h: size of the window.
        dx, dy: shift of the window, in its pixels.
        aspect: see s.
    """
    backend = get_backend(device)
    out: Array = backend.empty((image.shape[0], h, w))
    backend.image.rotate_crop(
        backend.array(image), out, float(rad), float(s), float(dx), float(dy), float(aspect), thread_count(threads)
    )
    return out


def rotate_image(image: Array, rad: float, *, device: str = "cpu", threads: int | None = None) -> Array:
    """The image turned by rad round its centre, in its own size; 0 where nothing comes to lie."""
    return rotate_crop_image(image, rad, 1, image.shape[2], image.shape[1], 0, 0, 1, device=device, threads=threads)


def rotate_image_cw(image: Array, times: int) -> Array:
    """The image turned by `times` quarters, in the direction in which Darknet turns."""
    return np.ascontiguousarray(np.rot90(image, times, axes=(1, 2)))


def flip_image(image: Array) -> Array:
    """Left and right exchanged."""
    return np.ascontiguousarray(image[:, :, ::-1])


def rgbgr_image(image: Array) -> Array:
    """Red and blue exchanged: RGB to BGR and back."""
    return np.ascontiguousarray(image[::-1])


# -- colours and values ----------------------------------------------------------------------------------------------


def rgb_to_hsv(image: Array, *, device: str = "cpu", threads: int | None = None) -> Array:
    """Hue (0..1 for the whole circle), saturation and value of an RGB image."""
    return _recoloured(image, "rgb_to_hsv", device, threads)


def hsv_to_rgb(image: Array, *, device: str = "cpu", threads: int | None = None) -> Array:
    """The RGB image of hue, saturation and value."""
    return _recoloured(image, "hsv_to_rgb", device, threads)


def distort_image(
    image: Array, hue: float, saturation: float, exposure: float, *, device: str = "cpu", threads: int | None = None
) -> Array:
    """Hue shifted, saturation and value multiplied, clipped to 0..1. Images without colours: exposure alone."""
    if image.shape[0] < 3:
        first = image[:1] * np.float32(exposure)
        return constrain_image(np.concatenate([first, image[1:]]))
    return _recoloured(image, "distort", device, threads, float(hue), float(saturation), float(exposure))


def hue_image(image: Array, hue: float, *, device: str = "cpu", threads: int | None = None) -> Array:
    """Hue shifted by `hue`, clipped to 0..1."""
    return distort_image(image, hue, 1, 1, device=device, threads=threads)


def saturate_image(image: Array, saturation: float, *, device: str = "cpu", threads: int | None = None) -> Array:
    """Saturation multiplied, clipped to 0..1."""
    return distort_image(image, 0, saturation, 1, device=device, threads=threads)


def exposure_image(image: Array, exposure: float, *, device: str = "cpu", threads: int | None = None) -> Array:
    """Value multiplied, clipped to 0..1."""
    return distort_image(image, 0, 1, exposure, device=device, threads=threads)


def saturate_exposure_image(
    image: Array, saturation: float, exposure: float, *, device: str = "cpu", threads: int | None = None
) -> Array:
    """Saturation and value multiplied, clipped to 0..1."""
    return distort_image(image, 0, saturation, exposure, device=device, threads=threads)


def _recoloured(image: Array, kernel: str, device: str, threads: int | None, *how: float) -> Array:
    if image.ndim != 3 or image.shape[0] != 3:
        raise ImageError(f"colours need an image of shape (3, h, w), found {image.shape}")
    backend = get_backend(device)
    result = np.array(image, backend.dtype, order="C")
    getattr(backend.image, kernel)(result.reshape(3, -1), *how, thread_count(threads))
    return result


def grayscale_image(image: Array) -> Array:
    """(1, h, w): .299 red + .587 green + .114 blue."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise ImageError(f"colours need an image of shape (3, h, w), found {image.shape}")
    return np.asarray(np.tensordot(np.array(_GREY, image.dtype), image, axes=1))[np.newaxis]


def normalize_image(image: Array) -> Array:
    """Values stretched so that the smallest is 0 and the largest 1; a uniform image stays as it is."""
    low, high = image.min(), image.max()
    return np.asarray((image - low) / (high - low)) if high - low >= 1e-9 else image.copy()


def translate_image(image: Array, s: float) -> Array:
    """s added to every value."""
    return np.asarray(image + image.dtype.type(s))


def scale_image(image: Array, s: float) -> Array:
    """Every value multiplied by s."""
    return np.asarray(image * image.dtype.type(s))


def constrain_image(image: Array) -> Array:
    """Every value clipped to 0..1."""
    return np.asarray(np.clip(image, 0, 1))


def threshold_image(image: Array, threshold: float) -> Array:
    """1 where a value exceeds the threshold, else 0."""
    return np.asarray(image > image.dtype.type(threshold)).astype(image.dtype)
