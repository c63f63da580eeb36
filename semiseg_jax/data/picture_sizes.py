"""Sizes of picture files from their heads, without the pixels."""

import os

import numpy as np
from PIL import Image

from semiseg_jax.data import picture_bytes

_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # a tag of EXIF, and its values that swap the sides


def size_of(path: str | os.PathLike) -> tuple[int, int] | None:
  """Returns (H, W) of a picture as it is read; None where its head does not tell."""
  try:
    if picture_bytes.suffix_of(str(path)) == ".npy":
      return _of_array(path)
    with Image.open(path) as picture:
      turned = picture.getexif().get(_ORIENTATION, 1) in _LYING
      return picture.size if turned else picture.size[::-1]
  except picture_bytes.BROKEN:  # reading the file will tell
    return None


def _of_array(path: str | os.PathLike) -> tuple[int, int] | None:
  shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
  return shape[:2] if len(shape) in (2, 3) else None
