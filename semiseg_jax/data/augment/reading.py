"""The pixels of a scaled crop, from no more of the picture than it needs."""

import cv2
import numpy as np
from PIL import Image

from semiseg_jax.data.augment.axes import Axis, Window
from semiseg_jax.data.records import Example, Record

_OPENCV = {"opencv_linear": cv2.INTER_LINEAR, "opencv_cubic": cv2.INTER_CUBIC}
_PILLOW = {
  "pillow_linear": (Image.Resampling.BILINEAR, 1.0),
  "pillow_cubic": (Image.Resampling.BICUBIC, 2.0),
}
KERNELS = (*_OPENCV, *_PILLOW)


class Region:
  """A decoded part of a picture, read by the coordinates of the whole: shared by several crops."""

  def __init__(self, picture: Example | Record, rows: Window, columns: Window):
    self.size = picture.size
    self._origin = rows[0], columns[0]
    self._part = picture.window(rows[0], columns[0], rows[1], columns[1])

  def window(self, y0: int, x0: int, y1: int, x1: int) -> Example:
    """As that of the picture, within the part."""
    top, left = self._origin
    return self._part.window(y0 - top, x0 - left, y1 - top, x1 - left)


def windows(y: Axis, x: Axis, kernel: str) -> tuple[Window, Window]:
  """The (rows, columns) of the picture that `read_crop` reads."""
  if kernel in _OPENCV:
    return y.grid_window[:2], x.grid_window[:2]
  _, taps = _PILLOW[kernel]
  return y.support_window(taps), x.support_window(taps)


def read_crop(
  picture: Example | Record | Region,
  y: Axis,
  x: Axis,
  *,
  kernel: str,
  nearest_centers: bool,
  flipped: bool,
) -> Example:
  """A crop of the scaled picture, without padding: its pixels are those of scaling all of it.

  Args:
    picture: decoded or not.
    y: the rows of the crop.
    x: its columns, of the mirrored picture where `flipped`.
    kernel: one of KERNELS. OpenCV's do not antialias, Pillow's do where they shrink.
    nearest_centers: the rule of the label and the maps, see `Axis.nearest`.
    flipped: mirror the picture from left to right first.

  Returns:
    Image uint8 [y.count, x.count, C], label and maps of the same sides.  A part is resized with
    other roundings of the kernel's weights than the whole: at some scales a few values in a
    thousand differ by one level.
  """
  rows, columns = windows(y, x, kernel)
  if flipped:
    part = picture.window(rows[0], x.source - columns[1], rows[1], x.source - columns[0])
    part = flip_columns(part)
  else:
    part = picture.window(rows[0], columns[0], rows[1], columns[1])
  resize = _resize_opencv if kernel in _OPENCV else _resize_pillow
  ys = y.nearest(centers=nearest_centers) - rows[0]
  xs = x.nearest(centers=nearest_centers) - columns[0]
  image = resize(part.image, y, x, kernel)
  return part.derive(image, lambda values, _: _pick(values, ys, xs))


def flip_columns(picture: Example) -> Example:
  """The picture mirrored from left to right."""
  return picture.derive(_flip(picture.image), lambda values, _: _flip(values))


def _flip(values: np.ndarray) -> np.ndarray:
  return cv2.flip(values, 1).reshape(values.shape)  # OpenCV drops an axis of one channel


def _pick(values: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
  if values.ndim > 2:
    return values.take(ys, axis=0).take(xs, axis=1)
  # Picking columns moves single bytes; of the transposed label they are rows.
  return cv2.transpose(cv2.transpose(values).take(xs, axis=0)).take(ys, axis=0)


def _resize_opencv(image: np.ndarray, y: Axis, x: Axis, kernel: str) -> np.ndarray:
  (_, _, height), (_, _, width) = y.grid_window, x.grid_window
  channels = image.shape[2]
  if image.shape[:2] != (height, width):
    image = cv2.resize(image, (width, height), interpolation=_OPENCV[kernel])
    image = image.reshape(height, width, channels)
  top, left = y.grid_offset(), x.grid_offset()
  return image[top : top + y.count, left : left + x.count]


def _resize_pillow(image: np.ndarray, y: Axis, x: Axis, kernel: str) -> np.ndarray:
  method, taps = _PILLOW[kernel]
  (top, bottom), (left, right) = (axis.box(axis.support_window(taps)) for axis in (y, x))
  if image.shape[2] == 3:
    planes = [Image.fromarray(np.ascontiguousarray(image))]
  else:  # of other modes Pillow multiplies by alpha
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])]
  out = [
    np.asarray(plane.resize((x.count, y.count), method, (left, top, right, bottom)))
    for plane in planes
  ]
  return out[0] if image.shape[2] == 3 else np.stack(out, axis=-1)
