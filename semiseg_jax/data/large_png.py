"""PNG files of pictures that are made a few rows at a time: no library here packs them so.

Source: PNG specification, third edition (W3C 2025): chunks of chapter 5, filters of chapter 9.
"""

import struct
import zlib
from collections.abc import Callable

import numpy as np

from semiseg_jax.data.picture_bytes import PNG

_PIXELS = 1 << 22  # of the rows that are made at a time
_LEVEL = 3
_GRAY, _RGB, _PALETTE = 0, 2, 3
_UP = 2  # a row as its differences from the one above


def encode(
  size: tuple[int, int],
  part: Callable[[slice], np.ndarray],
  palette: np.ndarray | None = None,
) -> bytearray:
  """PNG file of a picture that is never there as a whole.

  Args:
    size: (H, W).
    part: makes rows, uint8 [h,W] (gray) or [h,W,3] (RGB), or uint16 [h,W].
    palette: uint8 [256,3]; rows uint8 [h,W] are indices of these colors.
  """
  height, width = size
  step = max(1, _PIXELS // width)
  packer = zlib.compressobj(_LEVEL)
  file, above = bytearray(PNG), None
  for start in range(0, height, step):
    rows = part(slice(start, min(start + step, height)))
    if above is None:
      kind = _RGB if rows.ndim == 3 else _GRAY if palette is None else _PALETTE
      head = struct.pack(">IIBBBBB", width, height, 8 * rows.itemsize, kind, 0, 0, 0)
      file += _chunk(b"IHDR", head)
      file += b"" if palette is None else _chunk(b"PLTE", palette.tobytes())
    flat = rows.astype(rows.dtype.newbyteorder(">")).reshape(len(rows), -1).view(np.uint8)
    above = np.zeros_like(flat[0]) if above is None else above
    filtered = np.empty((len(flat), 1 + flat.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = flat[0] - above
    np.subtract(flat[1:], flat[:-1], out=filtered[1:, 1:])
    above = flat[-1].copy()
    packed = packer.compress(filtered)
    file += _chunk(b"IDAT", packed) if packed else b""
  file += _chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b"")
  return file


def _chunk(kind: bytes, data: bytes) -> bytes:
  return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
