"""Picture files of any kind as 8-bit RGB arrays; no torch.

Whatever a file holds (grey, CMYK, palette, 16 bit, alpha, EXIF rotation, several frames) comes out
as uint8 RGB, or an `ImageError` names the file and the remedy. Pixels of JPEG files equal those that
cv2 decodes for the official pipeline.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

logger = logging.getLogger(__name__)

# Pillow's own decoders; others start foreign programs (EPS) or draw vectors. JPEG includes phones' MPO
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
MAX_PIXELS = 89_478_485  # Pillow's warning limit: a quarter GiB of 24-bit pixels
EXIF_POLICIES = ("auto", "on", "off")
# what lies behind transparent pixels: ImageNet's mean colour, which the model sees as zero, like padding
BACKGROUND_RGB = (124, 116, 104)
FEW_BITS = 2**14  # 16-bit values below are perhaps those of a camera with 10, 12 or 14 bits
# EXIF orientation -> what makes the picture upright; from 5 on height and width change places
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# ... and what makes it as stored again
_STORED = {**_UPRIGHT, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
# beginnings of what often lies in the place of a picture: what it is, and the remedy
_OTHERS = (
    (
        rb"\s*<(!doctype html|html|head)",
        "text/HTML",
        "download the picture itself, not its web page",
    ),
    (rb"\s*<(\?xml|svg)", "text/XML", "export it as PNG or JPEG"),
    (rb"version https://git-lfs", "a pointer of Git LFS", "fetch the file with `git lfs pull`"),
    (rb"....ftyp(heic|heix|mif1|msf1|avif)", "HEIC or AVIF", "convert it to PNG or JPEG"),
    (rb"%PDF|%!PS", "a document (PDF, PostScript)", "export its page as PNG or JPEG"),
    (rb"[\t\n\r -~]+\Z", "text", "replace the file or leave it out"),
)


class ImageError(ValueError):
    """A picture cannot be read as its data set says it should; the message names file and remedy."""


def read_image(
    source: Path | str | bytes,
    *,
    exif: str = "auto",
    expected_hw: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """The first frame of a picture as 8-bit RGB.

    16-bit grey is scaled (not cut) to 8 bits, and told where that leaves it dark; transparency is laid over
    `BACKGROUND_RGB`.

    Args:
        source: a file, or its bytes.
        exif: "on" turns the picture as its EXIF orientation says, as viewers do; "off" never; "auto" does
            unless only the unturned picture has the size `expected_hw`.
        expected_hw: height and width the annotations were made for.
        max_pixels: larger pictures are refused before decoding.

    Raises:
        ImageError: missing, unreadable, truncated, too large, or not of the expected size.
    """
    if exif not in EXIF_POLICIES:
        raise ValueError(f"exif: expected one of {EXIF_POLICIES}, found {exif!r}")
    name = _name(source)
    with _opened(source, name, max_pixels) as image:
        orientation = _applied_orientation(image, name, exif, expected_hw)
        # a phone's MPO has a preview as its second frame
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            _tell(f"{name} has {image.n_frames} frames; the first is used")
        turn = _turn(image, orientation)
        pixels = _as_rgb(image, name)
        return np.array(pixels if turn is None else pixels.transpose(turn))


def read_bitmap(source: Path | str | bytes) -> tuple[np.ndarray, bool]:
    """A mask that was stored as a picture: what is brighter than half of the brightest, whatever its range.

    Returns: bool (height, width), upright as `read_image` has it, and whether it holds more than two values.

    Raises:
        ImageError: as `read_image`.
    """
    name = _name(source)
    with _opened(source, name, MAX_PIXELS) as image:
        turn = _turn(image, _orientation(image, name))
        # 16 bits as they are: scaled to 8 a mask of 0 and 1 would be empty
        own = image if _is_wide(image) else _as_rgb(image, name)
        values = np.asarray(own if turn is None else own.transpose(turn))
    values = values.max(axis=2) if values.ndim == 3 else values
    most = values.max()
    return values > most / 2, bool(((values > 0) & (values < most)).any())


def image_size(
    source: Path | str | bytes,
    *,
    exif: str = "auto",
    expected_hw: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[int, int]:
    """Height and width that `read_image` would return, from the file's header alone.

    Raises:
        ImageError: as `read_image`, except for damage behind the header.
    """
    name = _name(source)
    with _opened(source, name, max_pixels) as image:
        return _turned_hw(image, _applied_orientation(image, name, exif, expected_hw))


def stored_picture(source: Path | str | bytes) -> tuple[tuple[int, int], int]:
    """Height and width as stored, and the EXIF orientation (1 where upright), from the file's header alone.

    Raises:
        ImageError: the header cannot be read, or tells of too many pixels.
    """
    name = _name(source)
    with _opened(source, name, MAX_PIXELS) as image:
        return _turned_hw(image, 1), _orientation(image, name, _exif_of_file)


@lru_cache(maxsize=100_000)  # a training reads each picture many times
def _tell(text: str) -> None:
    logger.warning("%s", text)


def _name(source: Path | str | bytes) -> str:
    return f"picture of {len(source)} bytes" if isinstance(source, bytes) else str(source)


@contextmanager
def _opened(source: Path | str | bytes, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """The picture, its header read; everything a decoder may raise becomes an ImageError."""
    try:
        with Image.open(_regular(source), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(f"{name}: {_too_large(f'{width}x{height}', max_pixels)}")
            yield image
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, twice as high
        found = re.search(r"\d+ pixels", str(error))
        raise ImageError(
            f"{name}: {_too_large(found[0] if found else error, max_pixels)}"
        ) from error
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly every kind
        raise ImageError(f"{name}: {_reason(error, source)}") from error


def _regular(source: Path | str | bytes) -> BytesIO | Path | str:
    """What Pillow may open: it would wait for a pipe without end.

    Raises:
        OSError: there is no such file, or it is none.
    """
    if isinstance(source, bytes):
        return BytesIO(source)
    mode = os.stat(source).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "a folder" if stat.S_ISDIR(mode) else "a pipe or device")
    return source


def _too_large(found: object, max_pixels: int) -> str:
    return f"expected at most {max_pixels} pixels, found {found}; make the picture smaller"


def _reason(error: Exception, source: Path | str | bytes) -> str:
    """What is wrong with a picture, and the remedy."""
    if isinstance(error, FileNotFoundError):
        if os.path.islink(source):
            return f"a link to {os.readlink(source)}, where nothing is; mend or remove the link"
        return "no such file; check the path and the image root"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.strerror}; name a picture that can be read"
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(*_beginning(source))
    found = f"{type(error).__name__}: {error}"
    return f"damaged or truncated ({found}); replace the file or leave it out"


def _beginning(source: Path | str | bytes) -> tuple[bytes, int]:
    """The first bytes, and how many there are in all."""
    if isinstance(source, bytes):
        return source[:512], len(source)
    with open(source, "rb") as file:
        return file.read(512), os.fstat(file.fileno()).st_size


def _unidentified(head: bytes, size: int) -> str:
    """What it is that no decoder takes, and the remedy."""
    if size == 0:
        return "empty (0 bytes); copy or download it again"
    begun = [name for name in FORMATS if Image.OPEN[name][1](head[:16])]
    if begun:
        return (
            f"damaged or truncated: begins as {begun[0]}, but its header is not whole "
            f"({size} bytes in all); copy or download it again"
        )
    for beginning, kind, remedy in _OTHERS:
        if re.match(beginning, head, re.IGNORECASE | re.DOTALL):
            return f"{kind}, not a picture; {remedy}"
    return f"not a picture of a known format ({', '.join(FORMATS)}); convert it to PNG or JPEG"


def _applied_orientation(
    image: Image.Image, name: str, exif: str, expected_hw: tuple[int, int] | None
) -> int:
    """The EXIF orientation to undo; 1 for none.

    Raises:
        ImageError: the size is not the expected one.
    """
    orientation = 1 if exif == "off" else _orientation(image, name)
    if expected_hw is None:
        return orientation
    expected_hw = (int(expected_hw[0]), int(expected_hw[1]))
    if exif == "auto" and _turned_hw(image, orientation) != expected_hw:
        orientation = 1
    found = _turned_hw(image, orientation)
    if found != expected_hw:
        raise ImageError(
            f"{name}: expected height and width {expected_hw} as in the annotations, found {found}; "
            "use the pictures the annotations were made for, or correct the json"
        )
    return orientation


def _orientation(
    image: Image.Image,
    name: str,
    exif_of: Callable[[Image.Image], Image.Exif] = lambda image: image.getexif(),
) -> int:
    try:
        tags = image.tag_v2 if image.format == "TIFF" else exif_of(image)
        orientation = int(tags.get(_EXIF_ORIENTATION, 1))
        return orientation if orientation in _UPRIGHT else 1
    except Exception as error:  # the pixels are good even where this side note is not
        logger.warning("%s: unreadable EXIF data (%s); not turned", name, error)
        return 1


def _exif_of_file(image: Image.Image) -> Image.Exif:
    """As `image.getexif`, which decodes a PNG to look behind its pixels: only where something is there."""
    behind = image.format == "PNG" and _has_tags_behind(image.fp)
    return image.getexif() if behind else Image.Image.getexif(image)


def _has_tags_behind(file: BinaryIO) -> bool:
    """Whether a PNG has EXIF data or texts (XMP) behind its pixels, where some programs write them."""
    place, pixels = file.tell(), False
    file.seek(8)  # the signature
    try:
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            if pixels and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            pixels |= kind == b"IDAT"
            file.seek(size + 4, os.SEEK_CUR)
        return False
    finally:
        file.seek(place)


def _turned_hw(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Of a picture that is not decoded yet, once an EXIF orientation is undone."""
    width, height = image.size
    if image.format == "TIFF" and _orientation(image, "") >= 5:  # its header says so already
        width, height = height, width
    return (width, height) if orientation >= 5 else (height, width)


def _turn(image: Image.Image, orientation: int) -> Image.Transpose | None:
    """What undoes an EXIF orientation (1 for none) once the picture is decoded."""
    if image.format != "TIFF":
        return _UPRIGHT.get(orientation)
    own = _orientation(image, "")  # Pillow turns TIFF itself while it decodes
    return None if own == orientation else _STORED.get(own)


def _as_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if _is_wide(image):
        return _from_wide(image, name).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        front = image.convert("RGBA")
        back = Image.new("RGBA", front.size, (*BACKGROUND_RGB, 255))
        return Image.alpha_composite(back, front).convert("RGB")
    return image.convert("RGB")


def _is_wide(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


def _from_wide(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 bits as 8 bits: 65535 becomes 255. Pillow's own conversion would saturate."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ImageError(
            f"{name}: expected values of 8 or 16 bits, found Pillow's mode {image.mode!r} with values "
            f"{values.min()} to {values.max()}; scale the picture to 8 bits"
        )
    most = int(values.max())
    if 0 < most < FEW_BITS:
        _tell(
            f"{name}: its 16 bits end at {most}, so it comes out nearly black (at most {most / 257:.0f} of "
            "255); if fewer bits are meant, stretch the values to 0..65535"
        )
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
