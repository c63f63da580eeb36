"""Pictures as people hand them over: arrays, files, lists, batches; and what is said of each."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from semiseg_jax.data.pictures import read_picture
from semiseg_jax.errors import DataError

# An array [H,W,C] (or [H,W] where C is 1), a batch of them [B,H,W,C], a file, or a list of these.
Pictures = Any


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What a network says of a picture.

  Attributes:
    labels: uint8 [H,W], class ids.
    probabilities: float32 [H,W,K], which sum to 1 along K; classes that a gate does not see have 0.
  """

  labels: np.ndarray
  probabilities: np.ndarray

  @property
  def confidence(self) -> np.ndarray:
    """The probability of the label, float32 [H,W]."""
    return np.take_along_axis(self.probabilities, self.labels[..., None], -1)[..., 0]


def read(images: Pictures, channels: int, **reading: Any) -> list[np.ndarray]:
  """Returns uint8 [H,W,C] of each picture; one picture is a list of one.

  Args:
    images: see `Pictures`.
    channels: C of the network.
    **reading: of files, see `read_picture`.

  Raises:
    DataError: a file that cannot be read, an array of another kind or shape.
  """
  if is_one(images):
    return [one(images, channels, **reading)]
  if not isinstance(images, Iterable):
    raise DataError(
      f"{type(images).__name__} is no picture: give an array, a file, or a list of them"
    )
  return [one(image, channels, **reading) for image in images]


def is_one(images: Pictures) -> bool:
  """Whether it is one picture, and neither a list nor a batch."""
  if isinstance(images, str | os.PathLike):
    return True
  # Arrays of other libraries, jax's and Pillow's among them, say that they are arrays.
  is_array = hasattr(images, "__array__") or hasattr(images, "__array_interface__")
  return is_array and np.ndim(images) < 4


def one(image: Pictures, channels: int, **reading: Any) -> np.ndarray:
  """Returns uint8 [H,W,C] of one array or file; DataError as `read`."""
  if isinstance(image, str | os.PathLike):
    if os.path.isdir(image):
      raise DataError(f"{image} is a folder: give the pictures in it, or call predict_folder")
    return read_picture(image, channels=channels, **reading).pixels
  pixels = np.asarray(image)
  pixels = pixels[..., None] if pixels.ndim == 2 else pixels
  if pixels.dtype != np.uint8:
    raise DataError(
      f"an array of {pixels.dtype} {list(pixels.shape)}: pictures are uint8 from 0 to 255; "
      "(255 * x).round().astype(np.uint8) where they go from 0 to 1"
    )
  if pixels.ndim != 3 or pixels.shape[2] != channels:
    raise DataError(
      f"the network takes pictures [H,W,{channels}], this one is {list(pixels.shape)}; a batch is "
      f"[B,H,W,{channels}]"
    )
  if not pixels.size:
    raise DataError(f"an array {list(pixels.shape)} has no pixel")
  return pixels
