"""TIFF files of cameras, microscopes and satellites: pages, bands, values without data.

Pillow reads what has 8 bits a channel, OpenCV up to four channels of more bits, and the package
tifffile, which need not be there, all others. Smaller copies and masks that lie in the same file
(cloud-optimized GeoTIFFs) are no pages of the picture.
"""

import dataclasses
import io
import math
import os
import struct
from collections.abc import Callable
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from semiseg_jax.data import lossless as exactness
from semiseg_jax.data import orientation, picture_bytes
from semiseg_jax.errors import DataError

SUFFIXES = (".tif", ".tiff")
_SIDES, _BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _SIGN = (256, 257), 258, 262, 277, 284, 339
_COMPRESSION, _KIND, _NODATA = 259, 254, 42113
_NUMBERS = {*_SIDES, _BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _SIGN, _COMPRESSION, _KIND}
_NUMBERS |= {orientation.TAG}
_SMALLER, _MASK = 1, 4  # kinds of pages: a copy of another page, a mask of what has data
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_GRAYS_AND_RGB = (1, 2)
_OF_SIGN = {_UNSIGNED: "u", _SIGNED: "i", _FLOAT: "f"}


@dataclasses.dataclass(frozen=True)
class Page:
  """The head of a page; `index` is its place in the file."""

  index: int
  tags: dict[int, tuple]

  def first(self, number: int, default: int = 1) -> int:
    """The first value of a tag."""
    return self.tags.get(number, (default,))[0]

  @property
  def size(self) -> tuple[int, int]:
    """(H, W), as stored."""
    return self.first(257), self.first(256)

  @property
  def samples(self) -> int:
    """The channels of a pixel."""
    return self.first(_SAMPLES)

  @property
  def dtype(self) -> np.dtype | None:
    """Of its values; None for those that numpy does not have."""
    bits = set(self.tags.get(_BITS, (1,)))
    kind = _OF_SIGN.get(self.first(_SIGN, _UNSIGNED))
    if len(bits) > 1 or kind is None or bits.pop() not in (8, 16, 32, 64):
      return None
    bits = self.first(_BITS)
    return None if (kind, bits) == ("f", 8) else np.dtype(f"{kind}{bits // 8}")

  @property
  def orientation(self) -> int:
    """1 to 8."""
    found = self.first(orientation.TAG)
    return found if 1 <= found <= 8 else orientation.UPRIGHT

  @property
  def nodata(self) -> float | None:
    """The value of pixels without data, as GDAL writes it."""
    text = str(self.first(_NODATA, "")).strip(" \0")
    try:
      return float(text) if text else None
    except ValueError:
      return None


def is_tiff(data: bytes) -> bool:
  """Whether the file begins as a TIFF or a BigTIFF, whatever its name."""
  return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def pages(data: bytes, where: str) -> tuple[list[Page], Page | None]:
  """The pages of the picture, and that of the mask of what has data.

  Raises:
    DataError: it is no TIFF, or its heads are damaged.
  """
  return _pages_of(io.BytesIO(data), where)


def _pages_of(file: BinaryIO, where: str) -> tuple[list[Page], Page | None]:
  found, mask = [], None
  for page in _all_pages(file, where):
    kind = page.first(_KIND, 0)
    if kind & _MASK and not kind & _SMALLER:
      mask = mask or page
    elif not kind & (_SMALLER | _MASK):
      found.append(page)
  return found, mask


def first_page(path: str | os.PathLike) -> Page | None:
  """The head of the first page of a file, of which no pixels are read; None where it is no TIFF.

  Raises:
    DataError: the heads are damaged, or it cannot be read.
  """
  try:
    with open(path, "rb") as file:
      found = _pages_of(file, str(path))[0] if is_tiff(file.read(4)) else []
  except OSError as error:
    raise DataError(f"{path}: cannot be read ({error}); replace or remove it") from error
  return found[0] if found else None


def _all_pages(file: BinaryIO, where: str) -> list[Page]:
  try:
    file.seek(0)
    head = file.read(16)
    head = head[: 16 if head[2:3] == b"\x2b" or head[3:4] == b"\x2b" else 8]
    directory, found, seen = ImageFileDirectory_v2(head), [], set()
    while directory.next and directory.next not in seen:
      seen.add(directory.next)
      file.seek(directory.next)
      directory.load(file)
      tags = {number: directory[number] for number in directory}
      found.append({n: v if isinstance(v, tuple) else (v,) for n, v in tags.items()})
  except (*picture_bytes.BROKEN, struct.error, KeyError, TypeError, IndexError) as error:
    raise DataError(f"{where}: cannot be read ({error}); replace or remove it") from error
  numbers = [value for tags in found for tag in _NUMBERS & tags.keys() for value in tags[tag]]
  if not all(isinstance(value, int) for value in numbers) or any(() in t.values() for t in found):
    raise DataError(f"{where}: cannot be read (its head is damaged); replace or remove it")
  if not found or any(not set(_SIDES) <= tags.keys() for tags in found):
    raise DataError(f"{where}: cannot be read (no picture is in it); replace or remove it")
  return [Page(index, tags) for index, tags in enumerate(found)]


def read(
  data: bytes,
  where: str,
  *,
  to_array: Callable[[Image.Image], np.ndarray],
  max_pixels: int,
  lossless: bool = False,
) -> tuple[np.ndarray, np.ndarray | None, int]:
  """The picture of a TIFF, whose pages are channels.

  Args:
    data: the file's content.
    where: names it in errors.
    to_array: [H, W, C] of a page that Pillow has opened.
    max_pixels: of the largest picture that is read.
    lossless: refuse what may be compressed with loss, and several pages.

  Returns:
    Values [H, W, C] as viewers show them; which pixels have data, bool [H, W], None when all have;
    the orientation.

  Raises:
    DataError: broken, too large, or of a kind that nothing here reads.
  """
  found, mask = pages(data, where)
  if not found:
    raise DataError(f"{where}: holds masks and smaller copies only; save the picture itself")
  if lossless and len(found) > 1:
    raise picture_bytes.several(where, len(found))
  for page in found:
    picture_bytes.check_size(where, *page.size, max_pixels)
    if lossless and not exactness.tiff_is_exact(page.tags, data):
      raise picture_bytes.lossy(where, "TIFF")
  samples = sum(page.samples for page in found)
  if samples > 4 and samples * math.prod(found[0].size) > 4 * max_pixels:
    raise DataError(
      f"{where}: {samples} bands of {found[0].size[1]}x{found[0].size[0]} pixels are above the "
      f"limit of {4 * max_pixels / 1e6:,.0f} million values; cut it into tiles, or leave bands out"
    )
  bands = [_read_page(data, where, page, to_array) for page in found]
  if len({(band.shape, band.dtype) for band in bands}) > 1:
    raise DataError(f"{where}: its pages differ in size or type; save one page per channel")
  pixels = np.concatenate(bands, axis=2) if len(bands) > 1 else bands[0]
  valid = _with_data(pixels, found[0].nodata)
  if mask is not None and mask.size == found[0].size:
    shown = _read_page(data, where, mask, to_array)[..., 0] != 0
    valid = shown if valid is None else valid & shown
  if valid is not None and valid.all():
    valid = None
  return pixels, valid, found[0].orientation


def _with_data(pixels: np.ndarray, nodata: float | None) -> np.ndarray | None:
  """Which pixels have a value in any band; the value of none need not be one of their type."""
  if nodata is None:
    return None
  return ~is_value(pixels, nodata).all(axis=2)


def is_value(pixels: np.ndarray, nodata: float) -> np.ndarray:
  """Where `pixels` hold the value without data, which may be NaN."""
  if np.isnan(nodata):
    return np.isnan(pixels) if pixels.dtype.kind == "f" else np.zeros(pixels.shape, bool)
  if pixels.dtype.kind == "f":
    with np.errstate(over="ignore"):
      return pixels == pixels.dtype.type(nodata)
  limits = np.iinfo(pixels.dtype) if pixels.dtype.kind in "iu" else None
  fits = limits is None or limits.min <= nodata <= limits.max
  return pixels == nodata if fits else np.zeros(pixels.shape, bool)


def _read_page(
  data: bytes, where: str, page: Page, to_array: Callable[[Image.Image], np.ndarray]
) -> np.ndarray:
  """[H, W, C], upright, of the first reader that reads all of it."""
  found = _with_pillow(data, page, to_array)
  if found is None and _suits_opencv(page):
    found = _with_opencv(data, page)
  if found is not None:
    return found
  return orientation.turned(_with_tifffile(data, where, page), page.orientation)


def _with_pillow(
  data: bytes, page: Page, to_array: Callable[[Image.Image], np.ndarray]
) -> np.ndarray | None:
  """None for what Pillow refuses, and where it would cut channels or bits without a word."""
  if page.dtype is not None and page.dtype.str[1:] == "i1":
    return None
  try:
    picture = Image.open(io.BytesIO(data))
    picture.seek(page.index)
    picture.load()
  except picture_bytes.BROKEN:
    return None
  return None if cuts(picture, page) else to_array(picture)


def cuts(picture: Image.Image, page: Page) -> bool:
  """Whether Pillow, which has opened the page, leaves out channels or bits, or takes signs away."""
  bands = len(picture.getbands())
  deep = bands > 1 and max(page.tags.get(_BITS, (8,))) > 8
  unsigned = page.dtype is not None and page.dtype.str[1:] == "u4"
  return page.samples > bands or deep or unsigned


def _suits_opencv(page: Page) -> bool:
  """Whether OpenCV reads just what is stored; of other kinds it leaves out or mixes channels."""
  if page.dtype is None or page.dtype.str[1:] in ("u1", "f2"):
    return False
  counts = (1, 3) if page.dtype.itemsize == 1 else (1, 3, 4)
  contiguous = page.samples == 1 or page.first(_PLANAR) == 1
  return contiguous and page.samples in counts and page.first(_PHOTOMETRIC) in _GRAYS_AND_RGB


def _with_opencv(data: bytes, page: Page) -> np.ndarray | None:
  """None where this version of OpenCV does not read it, or not as it is stored."""
  buffer, number = np.frombuffer(data, np.uint8), page.index
  # It would print a line for each tag of GeoTIFF, and what it cannot read another reader tries.
  cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
  try:
    if number:
      found = cv2.imdecodemulti(buffer, cv2.IMREAD_UNCHANGED, range=(number, number + 1))[1]
    else:
      found = (cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED),)
  except cv2.error:
    return None
  if len(found) != 1 or found[0] is None:
    return None
  pixels = found[0] if found[0].ndim == 3 else found[0][..., None]
  height, width = page.size if page.orientation < 5 else page.size[::-1]
  if (*pixels.shape, pixels.dtype) != (height, width, page.samples, page.dtype):
    return None
  return pixels if page.samples == 1 else pixels[..., [2, 1, 0, *range(3, page.samples)]]


def _with_tifffile(data: bytes, where: str, page: Page) -> np.ndarray:
  """[H, W, C] as stored; DataError when it is broken, or tifffile is absent."""
  try:
    import tifffile
  except ImportError as error:
    raise DataError(
      f"{where}: broken, or a TIFF of a kind that Pillow and OpenCV cannot read; save it as .npy "
      "of [H, W, C], or run: pip install tifffile imagecodecs"
    ) from error
  try:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
      found = file.pages[page.index]
      pixels, axes = found.asarray(), found.axes
  except (OSError, ValueError, IndexError, KeyError, tifffile.TiffFileError) as error:
    raise DataError(f"{where}: cannot be read ({error}); replace or remove it") from error
  if axes == "SYX":
    pixels = np.moveaxis(pixels, 0, 2)
  elif axes not in ("YX", "YXS"):
    raise DataError(f"{where}: axes {axes}; save it as [H, W] or [H, W, C]")
  return pixels[..., None] if pixels.ndim == 2 else pixels
