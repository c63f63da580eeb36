"""Boundary IoU: how well the contours of classes are met, where large areas do not hide it.

    BIoU_c = |(T_c^d & T_c) & (P_c^d & P_c)| / |(T_c^d & T_c) | (P_c^d & P_c)|

T_c and P_c are the pixels of class c in truth and prediction, X^d those within d pixels of the
contour of X; d = 2 % of the picture's diagonal, rounded, at least 1.  Source: Cheng et al., CVPR
2021, arXiv 2103.16562, equation 2, with the distances of its published code: a mask is eroded d
times by a square of 3x3 and the border of the picture is a contour, too.

That is a definition for one mask.  Here the pixels of a class are summed over all pictures before
they are divided, as those of IoU are.  Pixels without a label are taken out of truth and prediction
first: they are in neither set, and where they begin both have a contour.
"""

import cv2
import numpy as np

SHARE = 0.02  # d, of the diagonal
_IGNORED = 255
_PIXELS = 1 << 22  # in the rows that are counted at a time


def distance(size: tuple[int, int], share: float = SHARE) -> int:
  """Returns d in pixels for pictures of `size` (H, W)."""
  return max(1, round(share * float(np.hypot(*size))))


def near_contour(label: np.ndarray, d: int) -> np.ndarray:
  """Bool [H,W]: which pixels are at most d pixels from another value or from the border.

  The distance is that of the chessboard.  For every class this is the mask less its erosion by a
  square of 2d + 1 pixels: a pixel stays where all of the square have its value.

  Args:
    label: uint8 [H,W].
    d: at least 1.
  """
  square = np.ones((2 * d + 1, 2 * d + 1), np.uint8)
  near = cv2.erode(label, square) != cv2.dilate(label, square)
  near[:d] = near[-d:] = True
  near[:, :d] = near[:, -d:] = True
  return near


def count_boundary(
  label: np.ndarray, prediction: np.ndarray, num_classes: int, share: float = SHARE
) -> np.ndarray:
  """Pixels int64 [3,C] near contours: hit, of the labels, predicted; as `confusion.overlaps`.

  Args:
    label: uint8 [H,W]; every value >= C is ignored.
    prediction: uint8 [H,W], every value < C.
    num_classes: C, at most 255.
    share: of the picture's diagonal that is d.
  """
  d, (height, width) = distance(label.shape, share), label.shape
  rows = max(d, _PIXELS // width)
  total = np.zeros((3, num_classes), np.int64)
  for start in range(0, height, rows):
    stop = min(start + rows, height)
    first, last = max(0, start - d), min(height, stop + d)
    truth = label[first:last]
    truth = np.where(truth < num_classes, truth, np.uint8(_IGNORED))
    found = np.where(truth < num_classes, prediction[first:last], np.uint8(_IGNORED))
    # The rows that were added for their neighbors are not counted; the first and the last are.
    inner = slice(start - first, stop - first)
    near = [near_contour(x, d)[inner] for x in (truth, found)]
    truth, found = truth[inner], found[inner]
    sets = (truth[near[0] & near[1] & (truth == found)], truth[near[0]], found[near[1]])
    total += [np.bincount(x, minlength=_IGNORED + 1)[:num_classes] for x in sets]
  return total
