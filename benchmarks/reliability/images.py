"""Broken image files, and strange ones that may be accepted."""

import os
import pathlib
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

__all__ = ["BROKEN_IMAGES", "STRANGE_IMAGES"]


def _convert(mode: str, format: str = "PNG") -> Callable[[pathlib.Path], None]:
    def change(path):
        image = Image.open(path).convert("RGB")
        image.convert(mode).save(path, format)

    return change


def _keep(first: float, last: float) -> Callable[[pathlib.Path], None]:
    """Keeps a part of the file."""

    def change(path):
        contents = path.read_bytes()
        path.write_bytes(contents[int(first * len(contents)) : int(last * len(contents))])

    return change


def _write(contents: bytes) -> Callable[[pathlib.Path], None]:
    return lambda path: path.write_bytes(contents)


def _flip_bytes(path):
    contents = bytearray(path.read_bytes())
    for i in range(len(contents) // 2, len(contents) // 2 + 50):
        contents[i] ^= 255
    path.write_bytes(contents)


def _resize(size):
    return lambda path: Image.open(path).convert("RGB").resize(size).save(path, "PNG")


def _make_deep(path):
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(path, "PNG")


def _make_float(path):
    Image.fromarray(np.full((64, 64), 0.5, np.float32)).save(path, "TIFF")


def _replace_by(make):
    def change(path):
        path.unlink()
        make(path)

    return change


def _make_loop(path):
    path.symlink_to(path.name)


def _make_bomb(path):
    """Writes a PNG of a few bytes that says it has 10 gigapixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def _cut_jpeg(path):
    _convert("RGB", "JPEG")(path)
    _keep(0, 0.6)(path)


BROKEN_IMAGES: Mapping[str, Callable[[pathlib.Path], object]] = {
    "cut off near the end": _keep(0, 0.9),
    "cut off in the middle": _keep(0, 0.5),
    "cut off in its head": _keep(0, 0.001),
    "a JPEG that is cut off": _cut_jpeg,
    "without its beginning": _keep(0.1, 1),
    "bytes changed": _flip_bytes,
    "empty": _write(b""),
    "zero bytes": _write(bytes(5000)),
    "text": _write(b"hello"),
    "HTML": _write(b"<html><body>404 Not Found</body></html>"),
    "16 bits": _make_deep,
    "floating point": _make_float,
    "larger than said": _resize((128, 64)),
    "smaller than said": _resize((16, 16)),
    "one pixel": _resize((1, 1)),
    "a bomb": _make_bomb,
    "a pipe": _replace_by(os.mkfifo),
    "a folder": _replace_by(os.mkdir),
    "absent": os.remove,
    "a link to itself": _replace_by(_make_loop),
    "a link to nothing": _replace_by(lambda path: path.symlink_to("nowhere.png")),
}
"""Functions that make an image of 64×64 pixels unusable, given its path."""

STRANGE_IMAGES: Mapping[str, Callable[[pathlib.Path], object]] = {
    "CMYK": _convert("CMYK", "JPEG"),
    "alpha": _convert("RGBA"),
    "a palette": _convert("P"),
    "grey": _convert("L"),
    "grey and alpha": _convert("LA"),
    "black and white": _convert("1"),
    "another format than its name says": _convert("RGB", "JPEG"),
    "WebP": _convert("RGB", "WEBP"),
    "GIF": _convert("P", "GIF"),
}
"""Functions that make it strange, but not unusable."""
