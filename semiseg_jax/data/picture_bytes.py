"""The bytes of picture files: opened, checked, and what the usual decoders pass over in silence."""

import io
import math
import os
import pathlib
import struct
import tokenize
import zlib
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from semiseg_jax.data import lossless
from semiseg_jax.errors import DataError

PNG = b"\x89PNG\r\n\x1a\n"
# What Pillow raises for broken files, besides OSError for most of them.
BROKEN = (
  *(OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, struct.error),
  *(TypeError, ArithmeticError, zlib.error, NotImplementedError),
)
_PROGRAMS = ("EPS", "WMF")  # kinds that Pillow hands to other programs
# The most that OpenCV decodes, and that is read unless more is asked for.  Pillow's own limit, a
# sixth of that, calls satellite pictures an attack: what is opened is checked by `check_size`.
MAX_PIXELS = 1 << 30
Image.MAX_IMAGE_PIXELS = None
SIGN = 339  # a tag of TIFF
_KIND_OF_PAGE = 254
_NPY_HEADS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}
_IGNORED_PAGES = 1 | 4  # a smaller copy of another page, a mask of what can be seen


def suffix_of(where: str) -> str:
  """In small letters."""
  return pathlib.PurePath(where).suffix.lower()


def read_bytes(path: str | os.PathLike) -> bytes:
  """The content of a file; DataError when it cannot be read."""
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    raise DataError(f"{path}: cannot be read ({error}); replace or remove it") from error


def check_lossless(picture: Image.Image, data: bytes, where: str) -> None:
  """DataError for an opened file whose values are not those that were written."""
  kind = picture.format
  is_tiff = kind == "TIFF"
  exact = lossless.tiff_is_exact if is_tiff else lossless.is_exact
  if not exact(dict(picture.tag_v2) if is_tiff else kind, data):
    raise lossy(where, kind)


def check_size(where: str, height: int, width: int, max_pixels: int) -> None:
  """DataError for a picture of more pixels than are to be read, which says how to read it."""
  if height * width <= max_pixels:
    return
  raise DataError(
    f"{where}: {width}x{height} = {height * width / 1e6:,.0f} million pixels, above the limit of "
    f"{max_pixels / 1e6:,.0f} million; cut it into tiles, or give --max_pixels {height * width} if "
    "the memory suffices"
  )


def lossy(where: str, kind: str) -> DataError:
  """The error of a label whose values are not those that were drawn."""
  how = "which is lossy, so its values are not"
  if kind in ("TIFF", "WEBP"):
    how = "that is compressed with loss, so its values are not"
  elif kind in ("JPEG2000", "AVIF"):
    how = "which is lossy or not known to be exact, so its values may not be"
  return DataError(
    f"{where}: labels must be lossless, this is of the kind {kind}, {how} those that were drawn; "
    "save it as PNG where it was made (converting this file mends nothing)"
  )


def check_single(picture: Image.Image, where: str) -> None:
  """DataError for an opened file of several pictures; small copies and masks in a TIFF are none."""
  count = getattr(picture, "n_frames", 1)
  if picture.format == "TIFF" and count > 1:
    kinds = []
    for page in range(count):
      picture.seek(page)
      kinds.append(tag(picture, _KIND_OF_PAGE, 0)[0])
    picture.seek(0)
    picture.load()
    count = sum(not kind & _IGNORED_PAGES for kind in kinds)
  if count > 1:
    raise several(where, count)


def several(where: str, count: int) -> DataError:
  """The error of a label file of several pictures."""
  return DataError(f"{where}: {count} pictures in one file; save one of [H, W] ids")


def tag(picture: Image.Image, number: int, default: int = 1) -> tuple[int, ...]:
  """The values of a tag of an opened TIFF."""
  value = picture.tag_v2.get(number, default)
  return value if isinstance(value, tuple) else (value,)


def load_npy(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
  """The array of a .npy file; DataError when there is none, one of no numbers, or too large."""
  file = io.BytesIO(data)
  shape, columns_first, dtype = npy_head(file, where)
  size, rest = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
  if size > rest:
    raise DataError(
      f"{where}: cannot be read (its head says {dtype} {list(shape)}, {size} bytes, and {rest} "
      "follow); replace or remove it"
    )
  if len(shape) > 1:
    check_size(where, *(shape[1:] if shape[0] == 1 and len(shape) > 2 else shape)[:2], max_pixels)
  array = np.frombuffer(data, dtype, math.prod(shape), offset=file.tell())
  return array.reshape(shape, order="F" if columns_first else "C")


def npy_head(file: BinaryIO, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
  """Shape, whether columns come first, and type of an opened .npy file, which stands behind them.

  Raises:
    DataError: it is none, or its values are no numbers.
  """
  try:
    read = _NPY_HEADS.get(np.lib.format.read_magic(file), _unknown_npy)
    shape, columns_first, dtype = read(file)
    if dtype.kind not in "biuf" or min(shape, default=0) < 0:
      raise ValueError(f"{dtype} {list(shape)}: not numbers of a picture")
  except (*BROKEN, RecursionError, MemoryError, tokenize.TokenError) as error:
    raise DataError(f"{where}: cannot be read ({_short(error)}); replace or remove it") from error
  return shape, columns_first, dtype


def _unknown_npy(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
  raise ValueError("a .npy of a version that holds no pictures")


def _short(error: BaseException) -> str:
  return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def open_picture(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
  """The decoded file; DataError when it is broken, unknown or too large."""
  try:
    picture = Image.open(io.BytesIO(data))
    if picture.format in _PROGRAMS:
      raise UnidentifiedImageError(picture.format)
    check_size(where, picture.height, picture.width, max_pixels)
    picture.load()
  except BROKEN as error:
    unknown = isinstance(error, UnidentifiedImageError)
    reason = "it is no picture of a known kind" if unknown else _short(error)
    if data.startswith(b"version https://git-lfs"):
      reason = "it is a pointer of Git LFS: `git lfs pull` fetches the picture"
    raise DataError(f"{where}: cannot be read ({reason}); replace or remove it") from error
  except MemoryError as error:
    raise DataError(
      f"{where}: {picture.width}x{picture.height} pixels are more than the memory holds; read "
      "fewer at a time (--workers 1), or cut it into tiles"
    ) from error
  return picture


def png_chunks(data: bytes, where: str) -> set[bytes]:
  """The kinds of chunks in a PNG; DataError when it is truncated or a checksum differs."""
  kinds, start = set(), len(PNG)
  while b"IEND" not in kinds:
    end = start + 12 + int.from_bytes(data[start : start + 4])
    kind = data[start + 4 : start + 8]
    if end > len(data):
      raise DataError(f"{where}: cannot be read (the PNG is truncated); replace or remove it")
    if zlib.crc32(memoryview(data)[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
      raise DataError(f"{where}: cannot be read (the PNG is damaged); replace or remove it")
    kinds.add(kind)
    start = end
  return kinds


def decode_deep(data: bytes, where: str) -> np.ndarray:
  """A PNG of 16 bits a channel with colors, which Pillow would cut to 8 without a word."""
  pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
  if pixels is None or pixels.ndim != 3:
    raise DataError(
      f"{where}: a 16-bit PNG that does not decode, or one of more than {MAX_PIXELS:,} pixels; "
      "convert it to 8 bits, or cut it into tiles"
    )
  return pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]


def png_depth(data: bytes) -> int | None:
  """Bits a channel of a PNG, None for other files."""
  return data[24] if data.startswith(PNG) and len(data) > 24 else None
