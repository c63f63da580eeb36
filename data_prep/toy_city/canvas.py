"""Classes of the toy city, and a canvas that paints picture and label with one stroke.

Everything is painted at twice the final size and averaged down, so that edges are anti-aliased;
the label of a pixel is the class that covers most of its four samples.
"""

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike

CLASSES = (
  "road",
  "pavement",
  "building",
  "fence",
  "pole",
  "sign",
  "vegetation",
  "terrain",
  "sky",
  "person",
  "car",
)
COLORS = (
  (128, 64, 128),
  (244, 35, 232),
  (70, 70, 70),
  (190, 153, 153),
  (153, 153, 153),
  (220, 220, 0),
  (107, 142, 35),
  (152, 251, 152),
  (70, 130, 180),
  (220, 20, 60),
  (0, 0, 142),
)
ROAD, PAVEMENT, BUILDING, FENCE, POLE, SIGN, VEGETATION, TERRAIN, SKY, PERSON, CAR = range(11)
# Of a town: what its pictures show, and the class of the city whose name and color it has.
TOWN = ((ROAD,), (PAVEMENT, TERRAIN), (BUILDING,), (VEGETATION,), (SKY,), (CAR,))

_FLAT = np.zeros((256, 3), np.float32)
_FLAT[: len(COLORS)] = np.asarray(COLORS, np.float32) / 255
_SUBPIXEL_BITS = 4
_CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], -1)


class Canvas:
  """Radiance [2H,2W,3] float32 (RGB, 1 = white) and class [2H,2W] uint8, painted together.

  With `flat` every stroke takes the color of its class in place of its own: the same masks and
  the same order, so the picture then shows exactly what the label says.
  """

  def __init__(self, height: int, width: int, flat: bool = False):
    self.height, self.width, self.flat = 2 * height, 2 * width, flat
    self.image = np.zeros((self.height, self.width, 3), np.float32)
    self.label = np.full((self.height, self.width), SKY, np.uint8)

  def polygon(self, points: np.ndarray, color: np.ndarray, class_id: int) -> None:
    """Fills the polygon `points` [N,2] (x, y in samples) with one color [3]."""
    vertices = [_fixed_point(points)]
    color = _FLAT[class_id] if self.flat else color
    cv2.fillPoly(self.image, vertices, np.asarray(color, float), shift=_SUBPIXEL_BITS)
    cv2.fillPoly(self.label, vertices, class_id, shift=_SUBPIXEL_BITS)

  def ellipse(self, center: ArrayLike, axes: ArrayLike, color: np.ndarray, class_id: int) -> None:
    """Fills an upright ellipse; `axes` are its half width and half height in samples."""
    self.polygon(_CIRCLE * axes + center, color, class_id)

  def quad(self, corners: np.ndarray, texture: np.ndarray, class_id: int) -> None:
    """Maps `texture` [h,w,3] in perspective on `corners` [4,2]: top left, top right, then below."""
    box = self._box(corners)
    if box is None:
      return
    top, bottom, left, right = box
    local = np.asarray(corners, np.float32) - np.float32([left, top])
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [_fixed_point(local)], 1, shift=_SUBPIXEL_BITS)
    h, w = texture.shape[:2]
    source = np.float32([[0, 0], [w, 0], [w, h], [0, h]]) - 0.5
    if cv2.contourArea(local) < 2.0:
      painted = np.broadcast_to(texture.mean((0, 1)), (*mask.shape, 3))
    else:
      painted = cv2.warpPerspective(
        texture,
        cv2.getPerspectiveTransform(source, local),
        mask.shape[::-1],
        borderMode=cv2.BORDER_REPLICATE,
      )
    self._paste(box, mask, painted, class_id)

  def sprite(
    self,
    box: tuple[float, float, float, float],
    texture: np.ndarray,
    mask: np.ndarray,
    class_id: int,
  ) -> None:
    """Stretches `texture` [h,w,3] and `mask` [h,w] uint8 over box = (left, top, right, bottom)."""
    left, top, right, bottom = box
    corners = np.array([[left, top], [right, bottom]])
    clipped = self._box(corners)
    if clipped is None or right - left < 1 or bottom - top < 1:
      return
    h, w = mask.shape
    y0, y1, x0, x1 = clipped
    scale = np.array([[w / (right - left), 0, 0], [0, h / (bottom - top), 0]])
    scale[:, 2] = scale[0, 0] * (x0 + 0.5 - left) - 0.5, scale[1, 1] * (y0 + 0.5 - top) - 0.5
    size = x1 - x0, y1 - y0
    inverse = cv2.WARP_INVERSE_MAP
    shape = cv2.warpAffine(mask, scale, size, flags=cv2.INTER_NEAREST | inverse)
    painted = cv2.warpAffine(
      texture, scale, size, flags=cv2.INTER_LINEAR | inverse, borderMode=cv2.BORDER_REPLICATE
    )
    self._paste(clipped, shape, painted, class_id)

  def area(self, rows: slice, radiance: np.ndarray, classes: np.ndarray, mask: np.ndarray) -> None:
    """Paints the rows where `mask` [h,W] holds with radiance [h,W,3] and classes [h,W]."""
    radiance = _FLAT[classes] if self.flat else radiance
    cv2.copyTo(radiance, mask.view(np.uint8), self.image[rows])
    cv2.copyTo(classes, mask.view(np.uint8), self.label[rows])

  def finish(self) -> tuple[np.ndarray, np.ndarray]:
    """The picture [H,W,3] float32 and the label [H,W] uint8 at the final size."""
    half = self.width // 2, self.height // 2
    return cv2.resize(self.image, half, interpolation=cv2.INTER_AREA), majority(self.label)

  def shows(self, points: np.ndarray) -> bool:
    """Whether the box around `points` [N,2] reaches into the picture."""
    return self._box(points) is not None

  def _box(self, points: np.ndarray) -> tuple[int, int, int, int] | None:
    xs, ys = points[:, 0].tolist(), points[:, 1].tolist()
    left, top = max(math.floor(min(xs)), 0), max(math.floor(min(ys)), 0)
    right = min(math.ceil(max(xs)) + 1, self.width)
    bottom = min(math.ceil(max(ys)) + 1, self.height)
    return (top, bottom, left, right) if left < right and top < bottom else None

  def _paste(
    self, box: tuple[int, int, int, int], mask: np.ndarray, painted: np.ndarray, class_id: int
  ) -> None:
    top, bottom, left, right = box
    if self.flat:
      painted = np.broadcast_to(_FLAT[class_id], painted.shape).copy()
    cv2.copyTo(painted, mask, self.image[top:bottom, left:right])
    self.label[top:bottom, left:right][mask.view(bool)] = class_id


def _fixed_point(points: np.ndarray) -> np.ndarray:
  return np.rint(points * np.float64(1 << _SUBPIXEL_BITS)).astype(np.int32)


def majority(label: np.ndarray) -> np.ndarray:
  """[2H,2W] -> [H,W]: the most frequent of each 2x2 block, the earliest of a tie."""
  a, b, c, d = label[::2, ::2], label[::2, 1::2], label[1::2, ::2], label[1::2, 1::2]
  a_has_pair = (a == b) | (a == c) | (a == d)
  b_has_pair = (b == c) | (b == d)
  return np.where(a_has_pair, a, np.where(b_has_pair, b, np.where(c == d, c, a)))
