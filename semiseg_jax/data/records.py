"""The record: one picture with its label (or none) as bytes, and windows of it read back.

A record is a msgpack map: `v` format version, `id`, `size` [H, W], `channels`, `image` and `label`
(nil when unlabeled). Image and label are maps of `codec`, `tile` (edge length in pixels, 0 when
stored whole) and `parts`, the encoded tiles in row-major order. Image codecs: `file` (the original
JPEG, PNG or WebP bytes), `png` (1, 3 or 4 channels), `zstd` (uint8 values, any number of channels),
`jpeg` (1 or 3 channels) and `raw` (uint8 values as they are); labels are uint8 values under zstd.
A picture with pixels that have no data also has `has_data`, stored as a label: 1 where there is
data, 0 elsewhere. Pictures above LARGE pixels are stored as tiles, so that a window is read without
decoding the rest.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import msgpack
import numpy as np
import zstandard

from semiseg_jax.errors import DataError
from semiseg_jax.labels import IGNORE

VERSION = 1
HAS_DATA = "has_data"  # the map's name, in a record and in a batch
TILE = 256
LARGE = 1 << 20
JPEG_QUALITY = 95
CODECS = {
  "keep": "JPEG and WebP files as they are, others as PNG, large ones in tiles (lossless)",
  "jpeg95": "JPEG of quality 95, large ones in tiles, small JPEG and WebP as they are (LOSSY)",
  "raw": "uncompressed, three times the size of PNG, for data that fit in memory (lossless)",
}
_SWAPPED_ROWS = 512
_PNG_MAGIC = b"\x89PNG"


@dataclasses.dataclass(frozen=True)
class Map:
  """Label-like values of a picture: uint8 [H, W] or [H, W, K]; `fill` stands in padding."""

  values: np.ndarray
  fill: int


@dataclasses.dataclass(frozen=True)
class Example:
  """A decoded picture.

  Attributes:
    id: the picture's name.
    image: uint8 [H, W, C], RGB order.
    label: uint8 [H, W] or None.
    maps: further label-like maps by name, which take the crop, scale and flip of the label.
  """

  id: str
  image: np.ndarray
  label: np.ndarray | None
  maps: Mapping[str, Map] = dataclasses.field(default_factory=dict)

  @property
  def size(self) -> tuple[int, int]:
    """(H, W)."""
    return self.image.shape[0], self.image.shape[1]

  def window(self, y0: int, x0: int, y1: int, x1: int) -> "Example":
    """The part [y0, y1) x [x0, x1); ValueError when it leaves the picture."""
    _check_window(self.id, self.size, y0, x0, y1, x1)
    return self.derive(self.image[y0:y1, x0:x1], lambda values, _: values[y0:y1, x0:x1])

  def derive(self, image: np.ndarray, change: Callable[[np.ndarray, int], np.ndarray]) -> "Example":
    """The picture with pixels `image`, its label and maps as `change`(values, fill) gives them."""
    label = None if self.label is None else change(self.label, IGNORE)
    maps = {name: Map(change(map.values, map.fill), map.fill) for name, map in self.maps.items()}
    return Example(self.id, image, label, maps)


class Record:
  """A record not yet decoded: `window` decodes only the tiles it touches.

  Args of the constructor:
    data: its bytes.
    masked: whether windows have the map HAS_DATA: of ones where the record has none.
  """

  def __init__(self, data: bytes, masked: bool = False):
    self.masked = masked
    self._fields = _unpack(data)
    self.id: str = self._fields["id"]
    self.size: tuple[int, int] = tuple(self._fields["size"])
    self.channels: int = self._fields["channels"]
    self.labeled: bool = self._fields["label"] is not None
    self._image = StoredPixels(self._fields["image"], self.size, self.channels, self.id)
    self._label = StoredPixels(self._fields["label"] or {}, self.size, 1, self.id)
    mask = self._fields.get(HAS_DATA)
    self._mask = None if mask is None else StoredPixels(mask, self.size, 1, self.id)

  def window(self, y0: int, x0: int, y1: int, x1: int) -> Example:
    """The part [y0, y1) x [x0, x1); ValueError when it leaves the picture."""
    _check_window(self.id, self.size, y0, x0, y1, x1)
    box = (y0, x0, y1, x1)
    label = self._label.window(*box)[..., 0] if self.labeled else None
    return Example(self.id, self._image.window(*box), label, self._maps(box))

  def _maps(self, box: tuple[int, int, int, int]) -> dict[str, Map]:
    if not self.masked:
      return {}
    if self._mask is None:
      return {HAS_DATA: _ones(box[2] - box[0], box[3] - box[1])}
    return {HAS_DATA: Map(self._mask.window(*box)[..., 0], 1)}

  def example(self) -> Example:
    """The whole picture."""
    return self.window(0, 0, *self.size)

  def image_digest(self) -> bytes:
    """SHA-256 of the picture as it is stored, which copies of one file share."""
    return hashlib.sha256(b"".join(self._fields["image"]["parts"])).digest()

  def label(self) -> np.ndarray | None:
    """The whole label, uint8 [H, W], None without one; the picture is not decoded."""
    return self._label.window(0, 0, *self.size)[..., 0] if self.labeled else None


def masked(picture: Record | Example) -> Record | Example:
  """Returns the picture with the map HAS_DATA, for a dataset of which another picture has one."""
  if isinstance(picture, Record):
    picture.masked = True
    return picture
  return dataclasses.replace(picture, maps={HAS_DATA: _ones(*picture.size), **picture.maps})


def _ones(height: int, width: int) -> Map:
  return Map(np.ones((height, width), np.uint8), 1)


class StoredPixels:
  """Values that `store_pixels` packed: `window` decodes only the tiles it touches.

  Args:
    stored: the packed map.
    size: (H, W).
    channels: C.
    where: names the values in errors.
  """

  def __init__(self, stored: dict[str, Any], size: tuple[int, int], channels: int, where: str):
    self._stored, self._size, self._channels, self._where = stored, size, channels, where
    self._whole: np.ndarray | None = None

  def window(self, y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    """The part [y0, y1) x [x0, x1), uint8 [h, w, C]; DataError when it does not decode."""
    stored = self._stored
    if stored["tile"]:
      box = (y0, x0, y1, x1)
      return _read_tiles(stored, self._size, self._channels, box, self._where)
    if self._whole is None:
      self._whole = _decode(
        stored["codec"], stored["parts"][0], *self._size, self._channels, self._where
      )
    return self._whole[y0:y1, x0:x1]


def encode_record(
  id: str,
  image: np.ndarray | bytes,
  label: np.ndarray | None,
  codec: str = "keep",
  pixels: np.ndarray | None = None,
  valid: np.ndarray | None = None,
) -> bytes:
  """Packs one picture.

  Args:
    id: the picture's name, unique in its dataset.
    image: uint8 [H, W, C] in RGB order, or the bytes of a JPEG, PNG or WebP file, whose
      orientation tags are ignored, as in decoding.
    label: uint8 [H, W], class ids and labels.IGNORE, or None.
    codec: one of CODECS; 'keep' keeps the bytes of files (a large PNG as lossless tiles). Pictures
      of other than 1 or 3 channels are stored without loss under 'jpeg95' too.
    pixels: what `image` decodes to, where that is known.
    valid: bool [H, W], which pixels have data; None where all have.

  Raises:
    DataError: the file does not decode to 8-bit pixels, or the shapes do not fit.
  """
  if pixels is None:
    pixels = decode_image(image, id) if isinstance(image, bytes) else np.asarray(image)
  if pixels.dtype != np.uint8 or pixels.ndim != 3 or 0 in pixels.shape:
    raise DataError(
      f"picture {id!r}: expected uint8 [H, W, C], got {pixels.dtype} "
      f"{list(pixels.shape)}; convert it before it is added"
    )
  height, width, channels = pixels.shape
  tile = tile_of(height, width)
  if label is not None and (label.dtype != np.uint8 or label.shape != (height, width)):
    raise DataError(
      f"label of {id!r}: expected uint8 {[height, width]} like its picture, got "
      f"{label.dtype} {list(label.shape)}; make the label fit the picture"
    )
  fields = {
    "v": VERSION,
    "id": id,
    "size": [height, width],
    "channels": channels,
    "image": _store_image(image, pixels, tile, codec),
    "label": None if label is None else store_pixels("zstd", label[..., None], tile),
  }
  if valid is not None:
    fields[HAS_DATA] = store_pixels("zstd", valid[..., None].astype(np.uint8), tile)
  return msgpack.packb(fields)


def decode_image(data: bytes, where: str) -> np.ndarray:
  """Decodes a JPEG, PNG or WebP file to uint8 [H, W, C] in RGB order; `where` names it in errors.

  The one decoder of preparation and training, so that both see the same pixels. It ignores
  orientation tags.
  """
  try:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
  except cv2.error as error:
    raise DataError(f"{where}: does not decode ({error.err}); replace or remove it") from error
  if pixels is None:
    raise DataError(f"{where}: not a readable picture; replace or remove it")
  if pixels.dtype != np.uint8:
    raise DataError(f"{where}: {pixels.dtype} pixels; convert it to 8 bits per channel")
  pixels = pixels if pixels.ndim == 3 else pixels[..., None]
  for start in range(
    0, len(pixels) * (pixels.shape[2] > 2), _SWAPPED_ROWS
  ):  # a large picture is not there twice
    part = pixels[start : start + _SWAPPED_ROWS]
    part[...] = _swap_red_blue(part)
  return pixels


def _swap_red_blue(pixels: np.ndarray) -> np.ndarray:
  codes = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
  channels = pixels.shape[2]
  return cv2.cvtColor(pixels, codes[channels]) if channels in codes else pixels


def _unpack(data: bytes) -> dict[str, Any]:
  try:
    fields = msgpack.unpackb(data)
    version = fields["v"]
  except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
    raise DataError("not a record of this format; prepare the dataset again") from error
  if version != VERSION:
    raise DataError(
      f"record version {version}, this program reads version {VERSION}; prepare the dataset again"
    )
  return fields


def _check_window(where: str, size: tuple[int, int], y0: int, x0: int, y1: int, x1: int) -> None:
  if not (0 <= y0 < y1 <= size[0] and 0 <= x0 < x1 <= size[1]):
    raise ValueError(f"window {(y0, x0, y1, x1)} is empty or leaves {where!r} of size {size}")


def _store_image(
  image: np.ndarray | bytes, pixels: np.ndarray, tile: int, codec: str
) -> dict[str, Any]:
  if codec not in CODECS:
    raise ValueError(f"codec {codec!r}; choose one of {', '.join(CODECS)}")
  if codec == "raw":
    return store_pixels("raw", pixels, 0)
  channels = pixels.shape[2]
  if isinstance(image, bytes):
    png = image.startswith(_PNG_MAGIC)
    # Tiles of a JPEG would be larger or lossy, so they need the user's word.
    keep = not (tile and png) if codec == "keep" else not (tile or png)
    if keep:
      return {"codec": "file", "tile": 0, "parts": [image]}
  if codec == "jpeg95" and channels in (1, 3):
    return store_pixels("jpeg", pixels, tile)
  return store_pixels("png" if channels in (1, 3, 4) else "zstd", pixels, tile)


def tile_of(height: int, width: int) -> int:
  """The edge length of the tiles of a picture of this size, 0 when it is stored whole."""
  return TILE if height * width > LARGE else 0


def store_pixels(codec: str, pixels: np.ndarray, tile: int) -> dict[str, Any]:
  """Packs uint8 [H, W, C] as the map of `codec`, `tile` and `parts` that the module describes."""
  height, width = pixels.shape[:2]
  step_y, step_x = (tile, tile) if tile else (height, width)
  parts = [
    _encode(codec, pixels[y : y + step_y, x : x + step_x])
    for y in range(0, height, step_y)
    for x in range(0, width, step_x)
  ]
  return {"codec": codec, "tile": tile, "parts": parts}


def _encode(codec: str, pixels: np.ndarray) -> bytes:
  pixels = np.ascontiguousarray(pixels)
  if codec == "zstd":
    return zstandard.ZstdCompressor(level=9).compress(pixels.tobytes())
  if codec == "raw":
    return pixels.tobytes()
  options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if codec == "jpeg" else []
  done, data = cv2.imencode("." + codec, _swap_red_blue(pixels), options)
  if not done:
    raise DataError(f"OpenCV could not write a {codec} of shape {list(pixels.shape)}")
  return data.tobytes()


def _decode(
  codec: str, data: bytes, height: int, width: int, channels: int, where: str
) -> np.ndarray:
  if codec in ("zstd", "raw"):
    return _decode_values(codec, data, (height, width, channels), where)
  pixels = decode_image(data, where)
  if pixels.shape != (height, width, channels):
    raise DataError(
      f"{where}: decodes to {list(pixels.shape)}, stored as "
      f"{[height, width, channels]}; prepare the dataset again"
    )
  return pixels


def _decode_values(codec: str, data: bytes, shape: tuple[int, int, int], where: str) -> np.ndarray:
  try:
    if codec == "zstd":
      data = zstandard.ZstdDecompressor().decompress(data, max_output_size=math.prod(shape))
    return np.frombuffer(data, np.uint8).reshape(shape)
  except (zstandard.ZstdError, ValueError) as error:
    raise DataError(
      f"{where}: does not decode to {list(shape)} values ({error}); prepare the dataset again"
    ) from error


def _read_tiles(
  stored: dict[str, Any],
  size: tuple[int, int],
  channels: int,
  box: tuple[int, int, int, int],
  where: str,
) -> np.ndarray:
  (height, width), tile, (y0, x0, y1, x1) = size, stored["tile"], box
  columns = -(-width // tile)
  out = np.empty((y1 - y0, x1 - x0, channels), np.uint8)
  for row in range(y0 // tile, -(-y1 // tile)):
    for column in range(x0 // tile, -(-x1 // tile)):
      top, left = row * tile, column * tile
      bottom, right = min(top + tile, height), min(left + tile, width)
      part = _decode(
        stored["codec"],
        stored["parts"][row * columns + column],
        bottom - top,
        right - left,
        channels,
        where,
      )
      a, b, c, d = max(top, y0), max(left, x0), min(bottom, y1), min(right, x1)
      out[a - y0 : c - y0, b - x0 : d - x0] = part[a - top : c - top, b - left : d - left]
  return out
