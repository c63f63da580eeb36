"""Pixels as the bytes of a PNG."""

import io

import numpy as np
from PIL import Image


def encode_png(array: np.ndarray) -> bytes:
  """PNG file of uint8 [H,W], [H,W,1] (gray) or [H,W,3] (RGB)."""
  if array.ndim == 3 and array.shape[2] == 1:
    array = array[..., 0]
  if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
    raise ValueError(f"a PNG takes uint8 [H,W] or [H,W,3], got {array.dtype} {array.shape}")
  buffer = io.BytesIO()
  Image.fromarray(array).save(buffer, format="PNG", compress_level=3)
  return buffer.getvalue()
