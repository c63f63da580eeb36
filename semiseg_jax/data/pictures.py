"""Picture and label files as people have them, read into arrays; arrays as PNG files."""

import dataclasses
import io
import os
import pathlib
import struct
import zlib

import cv2
import numpy as np
from PIL import Image, ImageOps

from semiseg_jax.data.records import decode_image
from semiseg_jax.errors import ConfigError, DataError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".npy")
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".npy")
_KEPT_FORMATS = ("JPEG", "MPO", "PNG", "WEBP")  # MPO: a camera's JPEG with a preview behind it
_ORIENTATION, _BITS, _SAMPLES = 0x0112, 258, 277  # EXIF and TIFF tags
# What Pillow raises for broken files, besides OSError for most of them.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_PNG = b"\x89PNG\r\n\x1a\n"
# Chunks that can turn, animate or make transparent; text may hold a camera's orientation.
_PNG_SPECIAL = {b"eXIf", b"tRNS", b"acTL", b"tEXt", b"zTXt", b"iTXt"}
_PNG_GRAY, _PNG_RGB, _PNG_RGBA = 0, 2, 6


@dataclasses.dataclass(frozen=True)
class Picture:
  """`pixels` uint8 [H, W, C]; `file`, its original bytes if these decode to just these pixels."""

  pixels: np.ndarray
  file: bytes | None


def read_picture(
  path: str | os.PathLike,
  *,
  channels: int | None = None,
  value_range: tuple[float, float] | None = None,
) -> Picture:
  """Reads the picture file `path`, see `decode_picture`."""
  return decode_picture(_read(path), str(path), channels=channels, value_range=value_range)


def decode_picture(
  data: bytes,
  where: str,
  *,
  channels: int | None = None,
  value_range: tuple[float, float] | None = None,
) -> Picture:
  """Decodes the bytes of a picture file of any common kind.

  JPEG, PNG, WebP and BMP; TIFF, of which pages are channels; .npy of [H, W] or [H, W, C]. Palettes
  become RGB, orientation tags are applied. TIFF with more than four samples a pixel, or 16-bit
  color, needs the package tifffile.

  Args:
    data: the file's content.
    where: its name, which ends in the suffix of its kind.
    channels: wanted C. Gray becomes 3 equal channels, an opaque alpha channel is dropped. None
      takes the file's own number (without an opaque alpha channel).
    value_range: (low, high) mapped to 0..255, required for all that is not 8 bits a channel.

  Raises:
    DataError: naming the file: unreadable, truncated, animated, or not of the wanted kind.
  """
  if _suffix(where) == ".npy":
    pixels, file = _load_npy(data, where), None
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
  else:
    pixels, file = _load_picture(data, where)
  if pixels.ndim != 3 or 0 in pixels.shape:
    raise DataError(f"{where}: shape {list(pixels.shape)}; save it as [H, W] or [H, W, C]")
  if pixels.dtype != np.uint8:
    pixels = _to_bytes(where, pixels, value_range)
  fitted = _fit_channels(where, pixels, channels)
  return Picture(fitted, file if fitted is pixels else None)


def read_label(path: str | os.PathLike, *, colors: bool = False) -> np.ndarray:
  """Reads the label file `path`, see `decode_label`."""
  _check_lossless(str(path))
  return decode_label(_read(path), str(path), colors=colors)


def decode_label(data: bytes, where: str, *, colors: bool = False) -> np.ndarray:
  """Decodes a label file: integers [H, W] as stored, or, with `colors`, maybe uint8 [H, W, 3].

  A palette picture is always read as its indices. `where` is the file's name with its suffix.
  DataError for files that cannot hold exact labels (JPEG, ...), or hold colors where ids are
  expected.
  """
  _check_lossless(where)
  if _suffix(where) == ".npy":
    label = _load_npy(data, where)
  else:
    label = _load_label(data, where, colors)
  if colors and label.ndim == 3 and label.shape[2] == 3 and label.dtype == np.uint8:
    return label
  if label.ndim != 2:
    raise DataError(
      f"{where}: a color picture of shape {list(label.shape)} where class ids [H, W] "
      "are expected; convert it, or say that labels are colors (data_prep.folder --label_colors)"
    )
  if not np.issubdtype(label.dtype, np.integer):
    raise DataError(f"{where}: {label.dtype} values where class ids are expected; save integers")
  return label


def encode_png(array: np.ndarray) -> bytes:
  """PNG file of uint8 [H,W], [H,W,1] (gray) or [H,W,3] (RGB)."""
  if array.ndim == 3 and array.shape[2] == 1:
    array = array[..., 0]
  if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
    raise ValueError(f"a PNG takes uint8 [H,W] or [H,W,3], got {array.dtype} {array.shape}")
  buffer = io.BytesIO()
  Image.fromarray(array).save(buffer, format="PNG", compress_level=3)
  return buffer.getvalue()


def _suffix(where: str) -> str:
  return pathlib.PurePath(where).suffix.lower()


def _read(path: str | os.PathLike) -> bytes:
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    raise DataError(f"{path}: cannot be read ({error}); replace or remove it") from error


def _check_lossless(where: str) -> None:
  if _suffix(where) not in LABEL_SUFFIXES:
    raise DataError(f"{where}: labels must be lossless; save it as one of {LABEL_SUFFIXES}")


def _load_label(data: bytes, where: str, colors: bool) -> np.ndarray:
  if data.startswith(_PNG):
    _png_chunks(data, where)  # Pillow does not look at the checksums of pixels
  picture = _open(data, where)
  label = np.asarray(picture)
  depth = _png_depth(data)
  if picture.mode == "L" and depth in (2, 4):
    label = label // (255 // (2**depth - 1))  # Pillow stretches such grays to 0..255
  if picture.mode == "RGBA" and colors and (label[..., 3] == 255).all():
    label = label[..., :3]
  return label.astype(np.uint8) if label.dtype == bool else label


def _load_npy(data: bytes, where: str) -> np.ndarray:
  try:
    return np.load(io.BytesIO(data), allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise DataError(f"{where}: cannot be read ({error}); replace or remove it") from error


def _open(data: bytes, where: str) -> Image.Image:
  try:
    picture = Image.open(io.BytesIO(data))
    picture.load()
  except _BROKEN as error:
    raise DataError(f"{where}: cannot be read ({error}); replace or remove it") from error
  return picture


def _load_picture(data: bytes, where: str) -> tuple[np.ndarray, bytes | None]:
  if _suffix(where) in (".tif", ".tiff"):
    return _load_tiff(data, where), None
  if _is_plain_png(data, where):
    return decode_image(data, where), data
  picture = _open(data, where)
  if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
    raise DataError(f"{where}: {picture.n_frames} pictures in one file; save them one by one")
  if _png_depth(data) == 16 and picture.mode not in ("I;16", "I"):
    return _decode_deep(data, where), None
  upright = picture.getexif().get(_ORIENTATION, 1) == 1
  pixels = _to_array(picture if upright else ImageOps.exif_transpose(picture))
  if upright and picture.format in _KEPT_FORMATS and picture.mode in ("L", "RGB", "RGBA"):
    decoded = decode_image(data, where)
    if decoded.shape == pixels.shape:
      return decoded, data
  return pixels, None


def _is_plain_png(data: bytes, where: str) -> bool:
  """Whether `decode_image` is right for these bytes; DataError for a damaged PNG.

  Saves Pillow's decoding, which is the better part of reading a large picture.
  """
  if not data.startswith(_PNG + b"\0\0\0\x0dIHDR"):
    return False
  kinds = _png_chunks(data, where)
  depth, color = struct.unpack_from("BB", data, len(_PNG) + 16)
  return depth == 8 and color in (_PNG_GRAY, _PNG_RGB, _PNG_RGBA) and not kinds & _PNG_SPECIAL


def _png_chunks(data: bytes, where: str) -> set[bytes]:
  """The kinds of chunks in a PNG; DataError when it is truncated or a checksum differs."""
  kinds, start = set(), len(_PNG)
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


def _to_array(picture: Image.Image) -> np.ndarray:
  """[H, W, C] of a loaded picture; bits, palettes and print colors become gray or RGB(A)."""
  if picture.mode == "1":
    picture = picture.convert("L")
  elif picture.mode in ("P", "PA"):
    picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
  elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
    picture = picture.convert("RGB")
  pixels = np.asarray(picture)
  return pixels if pixels.ndim == 3 else pixels[..., None]


def _load_tiff(data: bytes, where: str) -> np.ndarray:
  """[H, W, C]; the pages of a file are its channels."""
  try:
    picture = Image.open(io.BytesIO(data))
    picture.load()
  except _BROKEN:
    return _load_with_tifffile(data, where)
  bands, bits = len(picture.getbands()), picture.tag_v2.get(_BITS, (8,))
  if picture.tag_v2.get(_SAMPLES, 1) > max(bands, 1) or (bands > 1 and max(bits) > 8):
    return _load_with_tifffile(data, where)
  pages = []
  for page in range(picture.n_frames):
    picture.seek(page)
    pages.append(_to_array(ImageOps.exif_transpose(picture)))
  if len({(page.shape, page.dtype) for page in pages}) > 1:
    raise DataError(f"{where}: its pages differ in size or type; save one page per channel")
  return np.concatenate(pages, axis=2)


def _load_with_tifffile(data: bytes, where: str) -> np.ndarray:
  try:
    import tifffile
  except ImportError as error:
    raise DataError(
      f"{where}: broken, or a TIFF of a kind that Pillow cannot read; save it as .npy "
      "of [H, W, C], or run: pip install tifffile imagecodecs"
    ) from error
  try:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
      series = file.series[0]
      pixels, axes = series.asarray(), series.axes
  except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
    raise DataError(f"{where}: cannot be read ({error}); replace or remove it") from error
  if len(axes) == 3 and axes.endswith("YX"):
    pixels = np.moveaxis(pixels, 0, 2)
  return pixels[..., None] if pixels.ndim == 2 else pixels


def _decode_deep(data: bytes, where: str) -> np.ndarray:
  """A PNG of 16 bits a channel with colors, which Pillow would cut to 8 without a word."""
  pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
  if pixels is None or pixels.ndim != 3:
    raise DataError(f"{where}: a 16-bit PNG that does not decode; convert it to 8 bits")
  return pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]


def _png_depth(data: bytes) -> int | None:
  return data[24] if data.startswith(_PNG) and len(data) > 24 else None


def _to_bytes(
  where: str, pixels: np.ndarray, value_range: tuple[float, float] | None
) -> np.ndarray:
  if not np.issubdtype(pixels.dtype, np.number) or np.iscomplexobj(pixels):
    raise DataError(f"{where}: {pixels.dtype} values; save numbers")
  if not np.isfinite(pixels).all():
    raise DataError(f"{where}: values that are not finite; replace them")
  if value_range is None:
    raise DataError(
      f"{where}: {pixels.dtype} values from {pixels.min()} to {pixels.max()}; say "
      "which values become 0 and 255 (data_prep.folder --value_range LOW HIGH) or convert to 8 "
      "bits"
    )
  low, high = value_range
  if not low < high:
    raise ConfigError(f"--value_range {low} {high}: the first must be below the second")
  share = (pixels.astype(np.float64) - low) / (high - low)
  return np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)


def _fit_channels(where: str, pixels: np.ndarray, channels: int | None) -> np.ndarray:
  """`pixels` itself when nothing is to be done."""
  if pixels.shape[2] == channels:
    return pixels
  # Two and four channels of a picture file are gray or color with alpha.
  is_alpha = pixels.shape[2] in (2, 4) and _suffix(where) not in (".npy", ".tif", ".tiff")
  if is_alpha and channels in (None, 1, 3) and (pixels[..., -1] == 255).all():
    pixels = pixels[..., :-1]
  if channels is None or pixels.shape[2] == channels:
    return pixels
  if pixels.shape[2] == 1 and channels == 3:
    return np.repeat(pixels, 3, axis=2)
  raise DataError(
    f"{where}: {pixels.shape[2]} channels instead of {channels}; convert it, or "
    "prepare the data with another --channels"
  )
