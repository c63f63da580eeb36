"""Host geometry of training pictures: flip, scale and crop, in uint8."""

import dataclasses
import math
from collections.abc import Collection

import cv2
import numpy as np

from semiseg_jax.data.records import Example, Record
from semiseg_jax.labels import IGNORE


@dataclasses.dataclass(frozen=True)
class _Axis:
  """One axis of scale and crop: `count` resized pixels from `start` go to `pad` in the crop."""

  source: int  # pixels of the picture
  scaled: int  # pixels after scaling
  start: int
  count: int
  pad: int

  def window(self) -> tuple[int, int, int]:
    """(first, end, scaled length) of the source pixels that the crop depends on.

    With source : scaled = p : q in lowest terms, a window that begins at a multiple of p and has
    a length that is one is resized on the very grid of the whole picture.
    """
    units = math.gcd(self.source, self.scaled)
    p, q = self.source // units, self.scaled // units
    margin = max(1, -(-2 // p))
    first = max(self.start // q - margin, 0)
    end = min(-(-(self.start + self.count) // q) + margin, units)
    return first * p, end * p, (end - first) * q

  def offset(self) -> int:
    """Where the crop begins in the resized window."""
    first, _, _ = self.window()
    return self.start - first * self.scaled // self.source

  def nearest(self) -> np.ndarray:
    """Source pixels of the crop under OpenCV's nearest rule, floor(i * source / scaled)."""
    step = 1.0 / (self.scaled / self.source)
    return np.minimum(
      (np.arange(self.start, self.start + self.count) * step).astype(np.intp), self.source - 1
    )


def random_flip_scale_crop(
  example: Example | Record,
  rng: np.random.Generator,
  *,
  crop: tuple[int, int],
  scales: tuple[float, ...],
  flip: float,
  compat: Collection[str] = (),
) -> dict[str, np.ndarray]:
  """The training transform of the CPS reference, up to its normalisation.

  In order: horizontal flip with probability `flip`; a scale drawn uniformly from `scales`, new
  size int(n * scale), bilinear without antialiasing (label: nearest), both as OpenCV; a crop at a
  uniform offset along each axis that is longer than the crop; central padding where it is shorter
  (the smaller half on top and on the left). Only the source pixels that the crop needs are decoded
  and resized, which equals resizing the whole picture first (exactly, except at scales
  such as 1.75, where rounded kernel weights move a few values in ten thousand by one level).

  Args:
    example: the picture, decoded or not.
    rng: the generator of this draw.
    crop: (h, w) of the result.
    scales, flip: see above.
    compat: 'crop_offset' draws offsets as the reference does, one too far: at the last offset the
      crop is one pixel short and padded at the bottom or right.

  Returns:
    `image` uint8 [h, w, C], 0 in the padding; `label` uint8 [h, w], IGNORE in the padding and
    everywhere in an unlabeled picture; `valid` int32 [4], y0, x0, y1, x1 of the real pixels.
  """
  unknown = set(compat) - {"crop_offset"}
  if unknown:
    raise ValueError(f"compat {sorted(unknown)} is unknown here; possible: 'crop_offset'")
  flipped = rng.random() < flip
  scale = scales[int(rng.integers(len(scales)))]
  beyond = 1 if "crop_offset" in compat else 0
  y, x = (_draw_axis(n, c, scale, beyond, rng) for n, c in zip(example.size, crop))
  image, label = _read(example, y, x, flipped)
  out_image = np.zeros((*crop, image.shape[2]), np.uint8)
  out_label = np.full(crop, IGNORE, np.uint8)
  inside = np.s_[y.pad : y.pad + y.count, x.pad : x.pad + x.count]
  out_image[inside] = image
  if label is not None:
    out_label[inside] = label
  valid = np.array([y.pad, x.pad, y.pad + y.count, x.pad + x.count], np.int32)
  return {"image": out_image, "label": out_label, "valid": valid}


def _draw_axis(
  source: int, crop: int, scale: float, beyond: int, rng: np.random.Generator
) -> _Axis:
  scaled = max(int(source * scale), 1)
  start = int(rng.integers(0, scaled - crop + beyond, endpoint=True)) if scaled > crop else 0
  count = min(crop, scaled - start)
  return _Axis(source, scaled, start, count, (crop - count) // 2)


def _read(
  example: Example | Record, y: _Axis, x: _Axis, flipped: bool
) -> tuple[np.ndarray, np.ndarray | None]:
  """The cropped pixels: image uint8 [count_y, count_x, C] and label [count_y, count_x]."""
  (y0, y1, height), (x0, x1, width) = y.window(), x.window()
  if flipped:
    part = example.window(y0, x.source - x1, y1, x.source - x0)
    part = Example(
      part.id, part.image[:, ::-1], None if part.label is None else part.label[:, ::-1]
    )
  else:
    part = example.window(y0, x0, y1, x1)
  image = part.image
  if part.size != (height, width):
    channels = image.shape[2]
    image = cv2.resize(
      np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_LINEAR
    ).reshape(height, width, channels)
  top, left = y.offset(), x.offset()
  image = image[top : top + y.count, left : left + x.count]
  label = part.label
  if label is not None:
    label = label[y.nearest() - y0][:, x.nearest() - x0]
  return image, label
