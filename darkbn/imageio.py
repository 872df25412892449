"""Picture files: bytes in, bytes out, and errors that name the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from darkbn.errors import ImageError
from darkbn.files import atomic_write
from darkbn.signature import Array

if TYPE_CHECKING:
    from PIL import Image

#: What pictures are read from: a path, an open file, a Pillow image, or an array.
Source = Any

#: File suffixes that a folder of pictures is searched for.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".tga")

# Weights of stb_image when a colour file is read as grey, in 256ths.
_GREY_256THS = (77, 150, 29)


def read_pixels(source: Source, channels: int = 3, *, exif: bool = False) -> Array:
    """The pixels of a picture in bytes, as Darknet's decoder (stb_image) gives them.

    Alpha is dropped, not composited. 16-bit files keep their high bytes. Palettes, CMYK and the like become RGB. Of an
    animation it is the first frame.

    Args:
        source: a path or open binary file of any format that Pillow reads, a Pillow image, or a uint8 array of shape
            (h, w), (h, w, 1), (h, w, 3) RGB or (h, w, 4) RGBA.
        channels: 3 for RGB, 1 for grey, 4 for RGBA, 0 for as many as the picture has.
        exif: turn the picture as its EXIF orientation says. Darknet ignores it, and so does the default.

    Returns:
        uint8 (h, w, channels).

    Raises:
        ImageError: naming the file and what is wrong with it.
    """
    if channels not in (0, 1, 3, 4):
        raise ImageError(f"channels must be 0, 1, 3 or 4, found {channels}")
    pixels = _array_pixels(source) if isinstance(source, np.ndarray) else _file_pixels(source, exif)
    if 0 in pixels.shape:
        raise ImageError(f"{source_name(source)}: an image of {pixels.shape[1]} x {pixels.shape[0]} pixels")
    return _with_channels(pixels, channels or pixels.shape[2])


def save_picture(picture: Image.Image, path: str | os.PathLike[str], quality: int = 92) -> None:
    """Write a Pillow image, atomically. Raises ImageError when the suffix names no format or it cannot be written."""
    from PIL import Image

    suffix = os.path.splitext(os.fspath(path))[1].lower()
    form = Image.registered_extensions().get(suffix)
    if form not in Image.SAVE:
        raise ImageError(f"{os.fspath(path)}: {suffix or 'no suffix'} names no format that pictures are written in")
    options = {"quality": quality, "subsampling": 0} if form == "JPEG" else {}
    try:
        with atomic_write(path) as file:
            picture.save(file, form, **options)
    except (OSError, ValueError) as error:
        raise ImageError(f"{os.fspath(path)}: cannot write the picture: {_cause(error)}") from error


def _file_pixels(source: Source, exif: bool) -> Array:
    from PIL import Image

    try:
        if isinstance(source, Image.Image):
            return _picture_pixels(source, exif)
        if hasattr(source, "read"):
            return _picture_pixels(Image.open(source), exif)
        with Image.open(_path(source)) as picture:
            return _picture_pixels(picture, exif)
    except ImageError:
        raise
    except Exception as error:  # a decoder of a broken file may raise anything
        raise ImageError(f"{source_name(source)}: cannot read the image: {_cause(error)}") from error


def _path(source: Source) -> str:
    try:
        path = os.fsdecode(source)
    except TypeError as error:
        expected = "a path, an open file, a Pillow image or an array"
        raise ImageError(f"expected {expected}, found {type(source).__name__}") from error
    if os.path.isdir(path):
        raise ImageError(f"{path}: a folder, not an image")
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        raise ImageError(f"{path}: the file is empty")
    return path


def _picture_pixels(picture: Image.Image, exif: bool) -> Array:
    """Bytes of a Pillow image in the number of channels that it has."""
    if exif:
        from PIL import ImageOps

        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise ValueError("it holds floating-point values of unknown range; give an array (c, h, w) of values in 0..1")
    if picture.mode.startswith("I"):
        return np.asarray(np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8)[:, :, np.newaxis]
    alpha = picture.mode in ("LA", "PA", "La", "RGBa", "RGBA") or "transparency" in picture.info
    if picture.mode in ("1", "L", "LA", "La"):
        picture = picture.convert("LA" if alpha else "L")
    elif picture.mode != ("RGBA" if alpha else "RGB"):
        picture = picture.convert("RGBA" if alpha else "RGB")
    pixels = np.asarray(picture)
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels


def _array_pixels(array: Array) -> Array:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise ImageError(
            "an image array must be uint8 of shape (h, w) or (h, w, c) with 1, 3 or 4 channels, or an image of floats"
            f" (c, h, w); found {array.dtype} {array.shape}"
        )
    return array[:, :, np.newaxis] if array.ndim == 2 else array


def _with_channels(pixels: Array, channels: int) -> Array:
    """Pixels of 1 to 4 channels (grey, grey and alpha, RGB, RGBA) with another number of them."""
    depth = pixels.shape[2]
    if channels == depth:
        return np.ascontiguousarray(pixels)
    opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8) if depth in (1, 3) else pixels[:, :, -1:]
    colours = pixels[:, :, : 1 if depth < 3 else 3]
    if channels == 1:
        return _grey_pixels(colours)
    if depth < 3:
        colours = np.repeat(colours, 3, axis=2)
    return np.ascontiguousarray(np.concatenate([colours, opaque], axis=2) if channels == 4 else colours)


def _grey_pixels(colours: Array) -> Array:
    if colours.shape[2] == 1:
        return np.ascontiguousarray(colours)
    grey = colours.astype(np.uint16) @ np.array(_GREY_256THS, np.uint16)
    return np.asarray(grey >> 8).astype(np.uint8)[:, :, np.newaxis]


def source_name(source: Source) -> str:
    """What to call a source in a message."""
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    if isinstance(source, (str, bytes, os.PathLike)):
        name = os.fsdecode(source)
    return str(name) if name else f"<{type(source).__name__}>"


def _cause(error: Exception) -> str:
    """One line about an exception of a decoder."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if type(error).__name__ == "UnidentifiedImageError":
        return "not a format that Pillow knows"
    return str(error).partition("\n")[0] or type(error).__name__
