"""Sizes of picture files from their heads, without the pixels."""

import os

from PIL import Image

from semiseg_jax.data import orientation, picture_bytes
from semiseg_jax.errors import DataError

_LYING = (5, 6, 7, 8)  # orientations that swap the sides


def size_of(path: str | os.PathLike, exif: str = orientation.TURN) -> tuple[int, int] | None:
  """Returns (H, W) of a picture as it is read; None where its head does not tell.

  `exif` as in `pictures.read_picture`.
  """
  try:
    if picture_bytes.suffix_of(str(path)) == ".npy":
      return _of_array(path)
    with Image.open(path) as picture:
      # The size that Pillow gives of a TIFF is the one that is shown.
      other = orientation.IGNORE if picture.format == "TIFF" else orientation.TURN
      swapped = exif == other and orientation.of(picture) in _LYING
      return picture.size if swapped else picture.size[::-1]
  except (*picture_bytes.BROKEN, DataError):  # reading the file will tell
    return None


def _of_array(path: str | os.PathLike) -> tuple[int, int] | None:
  with open(path, "rb") as file:
    shape, _, _ = picture_bytes.npy_head(file, str(path))
  return shape[:2] if len(shape) in (2, 3) else None
