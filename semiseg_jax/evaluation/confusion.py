"""Confusion matrices and the scores read from them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax.errors import DataError

_SMALLEST_LENGTH = 1 << 10
_LARGEST_LENGTH = 1 << 22  # pixels that are counted at a time


def confusion(label: jax.Array, prediction: jax.Array, num_classes: int) -> jax.Array:
  """Counts int32 [C,C] of (truth, prediction) over the pixels with 0 <= truth < C.

  A pure array function for use inside jit. One call may hold fewer than 2**31 pixels; sum over
  pictures in int64 on the host, as `count_picture` lets one do.

  Args:
    label: integers of any shape; a value outside [0, C) (ignored, unlabeled) is not counted.
    prediction: integers of the same shape, every value in [0, C).
    num_classes: C.
  """
  label, prediction = label.reshape(-1).astype(jnp.int32), prediction.reshape(-1).astype(jnp.int32)
  counted = (label >= 0) & (label < num_classes)
  # Uncounted pixels get an index past the end, which mode='drop' leaves out.
  index = jnp.where(counted, label * num_classes + prediction, num_classes * num_classes)
  counts = jnp.zeros(num_classes * num_classes, jnp.int32).at[index].add(1, mode="drop")
  return counts.reshape(num_classes, num_classes)


def count_picture(label: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
  """Confusion int64 [C,C] of one picture, counted on the device.

  Pixels are padded with ignored ones to a few lengths, so that pictures of many sizes share a
  handful of compiled programs; of large pictures a part is counted at a time.

  Args:
    label: uint8 [H,W]; 255 and every other value >= C is not counted.
    prediction: uint8 [H,W].
    num_classes: C, at most 255.

  Raises:
    ValueError: the shapes differ, or a predicted value is not a class.
  """
  if label.shape != prediction.shape:
    raise ValueError(
      f"label {label.shape} and prediction {prediction.shape} differ in size; "
      "compare at the size of the label"
    )
  if num_classes > 255:
    raise ValueError(f"{num_classes} classes: labels are uint8 and 255 means ignored")
  if prediction.size and prediction.max() >= num_classes:
    raise ValueError(f"predicted value {prediction.max()} is not one of {num_classes} classes")
  truth, found = label.reshape(-1), prediction.reshape(-1)
  total = np.zeros((num_classes, num_classes), np.int64)
  for start in range(0, truth.size, _LARGEST_LENGTH):
    stop = min(start + _LARGEST_LENGTH, truth.size)
    length = max(_SMALLEST_LENGTH, 1 << (stop - start - 1).bit_length())
    padded = np.full((2, length), 255, np.uint8)
    padded[0, : stop - start], padded[1, : stop - start] = truth[start:stop], found[start:stop]
    padded = jax.device_put(padded)
    total += jax.device_get(_counted_pair(padded, num_classes=num_classes))
  return total


@functools.partial(jax.jit, static_argnames="num_classes")
def _counted_pair(pair: jax.Array, num_classes: int) -> jax.Array:
  return confusion(pair[0], pair[1], num_classes)


def scores(counts: np.ndarray) -> dict[str, float | np.ndarray]:
  """Scores of a confusion matrix, as fractions.

  IoU_c = n_cc / (row_c + column_c - n_cc), F1_c = 2 n_cc / (row_c + column_c), which is Dice,
  recall_c = n_cc / row_c, precision_c = n_cc / column_c. A class absent from truth and prediction
  has IoU and F1 NaN and drops out of the means; a class that is only predicted counts with 0.
  Mean class accuracy is the mean recall of the classes in the labels, frequency-weighted IoU the
  sum of IoU_c weighted by row_c / all pixels (Long et al., CVPR 2015, arXiv 1411.4038, section 5).

  Args:
    counts: integers [C,C], rows truth, columns prediction.

  Returns:
    'miou', 'miou_without_first' (without class 0), 'mean_f1', 'pixel_accuracy',
    'mean_class_accuracy', 'frequency_weighted_iou': floats;
    'iou', 'f1', 'recall' and 'precision': float64 [C]; 'pixels': counted pixels.

  Raises:
    DataError: nothing was counted.
    ValueError: not a square integer matrix.
  """
  counts = np.asarray(counts)
  if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.dtype.kind not in "iu":
    raise ValueError(
      f"a confusion matrix is a square integer array, got {counts.dtype} {counts.shape}"
    )
  counts = counts.astype(np.int64)
  pixels = counts.sum()
  if pixels == 0:
    raise DataError(
      "no pixel was counted: every label of this split is ignored, or the split "
      "is empty; check the id list and the ignore id of the dataset"
    )
  hit, truth, predicted = pixels_of = overlaps(counts)
  of_class, f1, recall = iou(pixels_of), _ratio(2 * hit, truth + predicted), _ratio(hit, truth)
  return {
    "miou": _mean(of_class),
    "miou_without_first": _mean(of_class[1:]),
    "mean_f1": _mean(f1),
    "pixel_accuracy": float(hit.sum() / pixels),
    "mean_class_accuracy": _mean(recall),
    "frequency_weighted_iou": float(np.nansum(truth / pixels * of_class)),
    "iou": of_class,
    "f1": f1,
    "recall": recall,
    "precision": _ratio(hit, predicted),
    "pixels": int(pixels),
  }


def overlaps(counts: np.ndarray) -> np.ndarray:
  """Pixels int64 [3,C] of a confusion matrix [C,C]: hit, in the labels, predicted."""
  return np.stack([np.diag(counts), counts.sum(1), counts.sum(0)]).astype(np.int64)


def iou(pixels: np.ndarray) -> np.ndarray:
  """IoU float64 [...,C] of pixels [...,3,C] as `overlaps` has them; NaN of an absent class."""
  hit, truth, predicted = np.moveaxis(pixels, -2, 0)
  return _ratio(hit, truth + predicted - hit)


def mean_iou(pixels: np.ndarray) -> np.ndarray:
  """Mean float64 [...] of `iou` over the classes that are not absent; NaN where all are."""
  values = iou(pixels)
  present = ~np.isnan(values)
  return _ratio(np.where(present, values, 0).sum(-1), present.sum(-1))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  return np.where(denominator > 0, numerator / np.maximum(denominator, 1), np.nan)


def _mean(values: np.ndarray) -> float:
  present = values[~np.isnan(values)]
  return float(present.mean()) if present.size else float("nan")
