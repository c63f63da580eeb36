"""Masks inside of annotation files: run lengths and pictures."""

import base64
import dataclasses
import io
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_prep.annotations import runs
from data_prep.annotations.shapes import Size, Window, by
from semiseg_jax.data import picture_bytes

_SMALL = 1 << 16  # pixels beside four times those of a picture: more are made to fill the memory


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
  """Run lengths of pixels outside and inside by turns, see `runs`.

  Attributes:
    counts: the lengths, or COCO's text of them.
    shape: (h, w) of the mask.
    by_column: whether the runs go down the columns, as in COCO.
    corner: (top, left) of the mask in the picture, None when it is of the whole picture.
  """

  counts: Sequence[int] | str
  shape: Size
  by_column: bool
  corner: tuple[int, int] | None = None

  def window(self, size: Size, line_width: float) -> Window:
    """The mask."""
    fits = all(side <= whole for side, whole in zip(self.shape, size))
    if not fits or (self.corner is None and tuple(self.shape) != tuple(size)):
      raise ValueError(f"its mask has {by(self.shape)} pixels, the picture {by(size)}")
    if math.prod(self.shape) > 4 * math.prod(size) + _SMALL:
      raise ValueError(f"its mask has {by(self.shape)} pixels, the picture only {by(size)}")
    counts = runs.parse(self.counts) if isinstance(self.counts, str) else self.counts
    return _cut(runs.decode(counts, self.shape, self.by_column), self.corner or (0, 0), size)


@dataclasses.dataclass(frozen=True, eq=False)
class Png:
  """A picture of what is inside: opaque where it is transparent elsewhere, or else all but 0.

  Attributes:
    text: the file in base64, `deflated` before or not.
    corner: (top, left) in the annotated picture.
  """

  text: str
  corner: tuple[int, int]
  deflated: bool

  def window(self, size: Size, line_width: float) -> Window:
    """The mask."""
    most = 4 * math.prod(size) + _SMALL  # bytes, and pixels
    try:
      data = base64.b64decode(self.text)
      if self.deflated:
        data = zlib.decompressobj().decompress(data, most)
      picture = Image.open(io.BytesIO(data))
      if picture.width * picture.height > most:
        raise ValueError(f"it has {by((picture.height, picture.width))} pixels")
      picture.load()
    except UnidentifiedImageError as error:
      raise ValueError("its mask cannot be decoded (no picture of a known format)") from error
    except picture_bytes.BROKEN as error:
      raise ValueError(f"its mask cannot be decoded ({error})") from error
    if picture.has_transparency_data:
      mask = np.asarray(picture.convert("RGBA"))[..., 3] > 0
    else:
      mask = np.asarray(picture if picture.mode == "L" else picture.convert("L")) > 0
    return _cut(mask, self.corner, size)


def check_runs(counts: Any) -> Sequence[int] | str:
  """Run lengths as `Runs` takes them; ValueError for anything else."""
  if isinstance(counts, str):
    return counts
  if not isinstance(counts, list | tuple) or not all(type(count) is int for count in counts):
    raise ValueError("run lengths ('counts') that are no whole numbers")
  return counts


def _cut(mask: np.ndarray, corner: tuple[int, int], size: Size) -> Window:
  """The part of a mask [h, w] at (top, left) that lies in the picture."""
  (top, left), (height, width) = corner, mask.shape
  if top > size[0] or left > size[1] or top + height < 0 or left + width < 0:
    raise ValueError(
      f"its mask of {by(mask.shape)} pixels at ({left}, {top}) lies outside of the picture of "
      f"{by(size)}"
    )
  inside = mask[max(-top, 0) : max(size[0] - top, 0), max(-left, 0) : max(size[1] - left, 0)]
  return max(top, 0), max(left, 0), inside
