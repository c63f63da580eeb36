"""Files of every kind of picture, and damages of them drawn from a seed."""

import io

import numpy as np
from PIL import Image

_rng = np.random.default_rng(0)
GRAY = np.repeat(np.repeat(_rng.integers(0, 5, (6, 8), np.uint8), 4, 0), 4, 1)
RGB = np.repeat(np.repeat(_rng.integers(0, 256, (6, 8, 3), np.uint8), 4, 0), 4, 1)


def _saved(array, kind, palette=False, **options):
  picture, out = Image.fromarray(array), io.BytesIO()
  (picture.quantize(8) if palette else picture).save(out, kind, **options)
  return out.getvalue()


def _npy(array):
  out = io.BytesIO()
  np.save(out, array)
  return out.getvalue()


def files():
  """Returns name -> content of small pictures."""
  deep = GRAY.astype(np.uint16) * 999
  return {
    "rgb.jpg": _saved(RGB, "JPEG"),
    "progressive.jpg": _saved(RGB, "JPEG", progressive=True),
    "rgb.png": _saved(RGB, "PNG"),
    "palette.png": _saved(RGB, "PNG", palette=True),
    "deep.png": _saved(deep, "PNG"),
    "ids.bmp": _saved(GRAY, "BMP"),
    "ids.gif": _saved(GRAY, "GIF"),
    "lossless.webp": _saved(RGB, "WEBP", lossless=True),
    "raw.tif": _saved(RGB, "TIFF"),
    "lzw.tif": _saved(GRAY, "TIFF", compression="tiff_lzw"),
    "deep.tif": _saved(deep, "TIFF", compression="tiff_adobe_deflate"),
    "rgb.npy": _npy(RGB),
    "float.npy": _npy(GRAY.astype(np.float32)),
  }


def damages(data, count, rng):
  """Yields `count` damaged copies of a file: flipped, cut, grown, overwritten."""
  for number in range(count):
    copy, at = bytearray(data), int(rng.integers(len(data)))
    if number % 2:
      at %= 64  # in its head
    kind = int(rng.integers(5))
    if kind == 0:
      copy[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
      del copy[at:]
    elif kind == 2:
      copy[at:at] = rng.bytes(int(rng.integers(1, 40)))
    elif kind == 3:
      copy[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
    else:
      copy[at : at + 20] = rng.bytes(20)
    yield bytes(copy)
