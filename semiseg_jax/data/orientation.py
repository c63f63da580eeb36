"""Pictures that a camera stored turned, and says so in a tag."""

import numpy as np
from PIL import Image

TAG = 0x0112  # of EXIF and of TIFF
UPRIGHT = 1
TURN, IGNORE = CHOICES = ("turn", "ignore")
_NAMES = {
  2: "mirrored",
  3: "turned by 180 degrees",
  4: "flipped",
  5: "transposed",
  6: "turned to the right",
  7: "transposed across",
  8: "turned to the left",
}


def of(picture: Image.Image) -> int:
  """The orientation 1 to 8 of an opened picture that is not loaded; 1 where no tag says another."""
  try:
    found = picture.getexif().get(TAG, UPRIGHT)
  except SyntaxError:  # Pillow's, for a block of EXIF that is none
    return UPRIGHT
  return found if found in _NAMES else UPRIGHT


def named(orientation: int) -> str:
  """What a viewer does with the picture, for people."""
  return f"its EXIF tag Orientation {orientation}: shown {_NAMES[orientation]}"


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
  """The picture as viewers show it, [H, W, ...] of stored pixels [h, w, ...].

  Source: TIFF 6.0, tag Orientation.
  """
  if orientation >= 5:
    pixels = pixels.swapaxes(0, 1)
  if orientation in (2, 3, 6, 7):
    pixels = pixels[:, ::-1]
  if orientation in (3, 4, 7, 8):
    pixels = pixels[::-1]
  return np.ascontiguousarray(pixels)


def stored(pixels: np.ndarray, orientation: int) -> np.ndarray:
  """The other way: what `turned` was made of."""
  return turned(pixels, {6: 8, 8: 6}.get(orientation, orientation))
