"""Picture and label files as people have them, read into arrays; arrays as PNG files."""

import contextlib
import dataclasses
import io
import os
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image

from semiseg_jax.data import jpeg_damage, jpeg_scans, orientation, picture_bytes, tiff, value_ranges
from semiseg_jax.data.records import decode_image
from semiseg_jax.errors import DataError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".npy")
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jp2", ".npy")
_KEPT_FORMATS = ("JPEG", "MPO", "PNG", "WEBP")  # MPO: a camera's JPEG with a preview behind it
# Chunks that can turn, animate or make transparent; text may hold a camera's orientation.
_PNG_SPECIAL = {b"eXIf", b"tRNS", b"acTL", b"tEXt", b"zTXt", b"iTXt"}
_PNG_GRAY, _PNG_RGB, _PNG_RGBA = 0, 2, 6


class ColoredLabelError(DataError):
  """A color picture where class ids are expected."""


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture that was read.

  Attributes:
    pixels: uint8 [H, W, C].
    file: its original bytes if these decode to just these pixels.
    valid: bool [H, W], which pixels have data; None when all have.
    orientation: the tag of the file, 1 when it is stored as it is shown.
    values: what the file holds, see `value_ranges.kind_of`.
  """

  pixels: np.ndarray
  file: bytes | None
  valid: np.ndarray | None = None
  orientation: int = orientation.UPRIGHT
  values: str = value_ranges.EIGHT_BITS


def read_picture(
  path: str | os.PathLike,
  *,
  channels: int | None = None,
  value_range: Sequence[float] | None = None,
  values: str | None = None,
  exif: str = orientation.TURN,
  nodata: str = "ignore",
  max_pixels: int = picture_bytes.MAX_PIXELS,
) -> Picture:
  """Reads the picture file `path`, see `decode_picture`."""
  return decode_picture(
    picture_bytes.read_bytes(path),
    str(path),
    channels=channels,
    value_range=value_range,
    values=values,
    exif=exif,
    nodata=nodata,
    max_pixels=max_pixels,
  )


def decode_picture(
  data: bytes,
  where: str,
  *,
  channels: int | None = None,
  value_range: Sequence[float] | None = None,
  values: str | None = None,
  exif: str = orientation.TURN,
  nodata: str = "ignore",
  max_pixels: int = picture_bytes.MAX_PIXELS,
) -> Picture:
  """Decodes the bytes of a picture file of any common kind.

  JPEG, PNG, WebP and BMP; TIFF, of which pages are channels; .npy of [H, W] or [H, W, C]. Palettes
  become RGB. Some TIFFs need the package tifffile: with more than four samples a pixel, or samples
  in planes.

  Args:
    data: the file's content.
    where: its name, which ends in the suffix of its kind.
    channels: wanted C. Gray becomes 3 equal channels, an opaque alpha channel is dropped. None
      takes the file's own number (without an opaque alpha channel).
    value_range: low and high mapped to 0..255, of all bands or one pair after the other of each;
      required for all that is not 8 bits a channel.
    values: the kind of values that the range is for, see `value_ranges.kind_of`; None: any.
    exif: 'turn' applies orientation tags, 'ignore' takes pixels as they are stored.
    nodata: 'ignore' says which pixels have the value that a GeoTIFF gives to those without data in
      all bands, or lie outside its mask; 'keep' takes them for others.
    max_pixels: of the largest picture that is read.

  Raises:
    DataError: naming the file: unreadable, truncated, animated, too large, or not of the wanted
      kind.
  """
  valid, turned = None, orientation.UPRIGHT
  if picture_bytes.suffix_of(where) == ".npy":
    pixels, file = picture_bytes.load_npy(data, where, max_pixels), None
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
  elif tiff.is_tiff(data):
    file = None
    pixels, valid, turned = tiff.read(data, where, to_array=_to_array, max_pixels=max_pixels)
    if exif == orientation.IGNORE:
      pixels = orientation.stored(pixels, turned)
      valid = None if valid is None else orientation.stored(valid, turned)
    valid = valid if nodata == "ignore" else None
  else:
    pixels, file, turned = _load_picture(data, where, exif, max_pixels)
  if pixels.ndim != 3 or 0 in pixels.shape:
    raise DataError(f"{where}: shape {list(pixels.shape)}; save it as [H, W] or [H, W, C]")
  found = value_ranges.kind_of(pixels.dtype)
  value_ranges.check_kind(where, pixels.dtype, values)
  if pixels.dtype != np.uint8:
    pixels = value_ranges.to_bytes(where, pixels, value_range, valid)
  fitted = _fit_channels(where, pixels, channels)
  return Picture(fitted, file if fitted is pixels else None, valid, turned, found)


def read_label(
  path: str | os.PathLike,
  *,
  colors: bool = False,
  grays: bool = False,
  exif: str = orientation.TURN,
  max_pixels: int = picture_bytes.MAX_PIXELS,
) -> np.ndarray:
  """Reads the label file `path`, see `decode_label`."""
  data = picture_bytes.read_bytes(path)
  return decode_label(data, str(path), colors=colors, grays=grays, exif=exif, max_pixels=max_pixels)


def decode_label(
  data: bytes,
  where: str,
  *,
  colors: bool = False,
  grays: bool = False,
  exif: str = orientation.TURN,
  max_pixels: int = picture_bytes.MAX_PIXELS,
) -> np.ndarray:
  """Decodes a label file: integers [H, W] as stored or, with `colors`, uint8 [H, W, 3].

  Without `colors` a palette picture is read as its indices; with it, palettes and grays become the
  colors that one sees.  An opaque alpha channel is dropped.

  Args:
    data: the file's content.
    where: its name with its suffix.
    colors: pixels are colors, not ids.
    grays: where they are ids, three equal channels are one.
    exif, max_pixels: as of pictures.

  Raises:
    DataError: a lossy file, whatever its suffix says; several pictures in one; transparent pixels;
      colors where ids are expected; values that are no integers.
  """
  is_npy = picture_bytes.suffix_of(where) == ".npy"
  if is_npy:
    label = _drop_unit_axis(picture_bytes.load_npy(data, where, max_pixels), colors)
  else:
    label = _load_label(data, where, colors, exif, max_pixels)
  if colors:
    return _as_colors(_drop_alpha(label, where), where)
  samples = label.shape[2] if label.ndim == 3 else 0
  are_equal = grays and samples in (3, 4) and (label[..., :3] == label[..., :1]).all()
  if are_equal or (samples == 2 and not is_npy):
    label = _drop_alpha(label, where)
    label = label[..., 0] if label.ndim == 3 else label
  label = _drop_unit_axis(label, colors)
  if label.ndim != 2 and is_npy:
    raise DataError(
      f"{where}: shape {list(label.shape)} where class ids [H, W] are expected; save the argmax of "
      "layers of classes, or say that labels are colors (data_prep.folder --label_colors)"
    )
  if label.ndim != 2:
    raise ColoredLabelError(
      f"{where}: a color picture of shape {list(label.shape)} where class ids [H, W] "
      "are expected; convert it, or say that labels are colors (data_prep.folder --label_colors)"
    )
  if label.dtype == bool:
    return label.astype(np.uint8)
  if not np.issubdtype(label.dtype, np.integer):
    raise DataError(f"{where}: {label.dtype} values where class ids are expected; save integers")
  return label


def read_palette(path: str | os.PathLike) -> np.ndarray | None:
  """The colors uint8 [n, 3] of a palette picture's indices; None for all other files.

  A ramp of grays, where index i has the color (i, i, i), is no palette.  Only the head of the file
  is read.
  """
  try:
    with Image.open(path) as picture:
      flat = picture.getpalette("RGB") if picture.mode == "P" else None
  except picture_bytes.BROKEN:  # reading the file will tell
    return None
  if flat is None:
    return None
  colors = np.array(flat, np.uint8).reshape(-1, 3)
  return None if (colors == np.arange(len(colors))[:, None]).all() else colors


def encode_png(array: np.ndarray) -> bytes:
  """PNG file of uint8 [H,W], [H,W,1] (gray) or [H,W,3] (RGB), or of uint16 [H,W]."""
  if array.ndim == 3 and array.shape[2] == 1:
    array = array[..., 0]
  shapes = {np.dtype(np.uint8): ((), (3,)), np.dtype(np.uint16): ((),)}.get(array.dtype, ())
  if array.ndim not in (2, 3) or array.shape[2:] not in shapes:
    raise ValueError(
      f"a PNG takes uint8 [H,W] or [H,W,3], or uint16 [H,W], got {array.dtype} {array.shape}"
    )
  buffer = io.BytesIO()
  Image.fromarray(array).save(buffer, format="PNG", compress_level=3)
  return buffer.getvalue()


def _load_label(data: bytes, where: str, colors: bool, exif: str, max_pixels: int) -> np.ndarray:
  """[H, W], or [H, W, C] of colors and alpha."""
  if data.startswith(picture_bytes.PNG):
    picture_bytes.png_chunks(data, where)  # Pillow does not look at the checksums of pixels
  is_tiff = tiff.is_tiff(data)
  try:
    picture = picture_bytes.open_picture(data, where, max_pixels)
  except DataError:
    if not is_tiff:
      raise
    picture = None
  if picture is None or (is_tiff and tiff.cuts(picture, tiff.pages(data, where)[0][0])):
    found = tiff.read(data, where, to_array=_to_array, max_pixels=max_pixels, lossless=True)
    label, _, turned = found
    return orientation.stored(label, turned) if exif == orientation.IGNORE else label
  label = _values_of(picture, data, where, colors)
  if picture.format != "TIFF":
    turned = orientation.of(picture)
    return orientation.turned(label, turned) if exif == orientation.TURN else label
  turned = tiff.pages(data, where)[0][0].orientation  # which Pillow has applied
  return orientation.stored(label, turned) if exif == orientation.IGNORE else label


def _values_of(picture: Image.Image, data: bytes, where: str, colors: bool) -> np.ndarray:
  picture_bytes.check_lossless(picture, data, where)
  picture_bytes.check_single(picture, where)
  depth = picture_bytes.png_depth(data)
  if depth == 16 and picture.mode not in ("I;16", "I"):
    return picture_bytes.decode_deep(data, where)
  if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
    raise DataError(f"{where}: colors as {picture.mode}, which are not exact; save it as RGB")
  if colors and (picture.has_transparency_data or picture.mode in ("P", "PA")):
    return np.asarray(picture.convert("RGBA"))
  if colors and picture.mode == "1":
    return np.asarray(picture.convert("L"))
  label = np.asarray(picture)
  if picture.mode == "L" and depth in (2, 4) and not colors:
    label = label // (255 // (2**depth - 1))  # Pillow stretches such grays to 0..255
  if (
    picture.format == "TIFF"
    and picture.mode == "L"
    and 2 in picture_bytes.tag(picture, picture_bytes.SIGN)
  ):
    return label.view(np.int8)
  return label


def _drop_alpha(label: np.ndarray, where: str) -> np.ndarray:
  if label.ndim != 3 or label.shape[2] not in (2, 4):
    return label
  full = np.iinfo(label.dtype).max if np.issubdtype(label.dtype, np.integer) else 1
  clear = int((label[..., -1] != full).sum())
  if clear:
    raise DataError(
      f"{where}: {clear} transparent pixels, of which nobody can tell the class; fill them with "
      "the color or the id that is meant, and save without transparency"
    )
  return label[..., 0] if label.shape[2] == 2 else label[..., :3]


def _drop_unit_axis(label: np.ndarray, colors: bool) -> np.ndarray:
  """[H, W] of [H, W, 1] and [1, H, W]."""
  if label.ndim == 3 and label.shape[2] == 1:
    return label[..., 0]
  is_row_of_colors = colors and label.shape[-1] in (3, 4)
  return label[0] if label.ndim == 3 and label.shape[0] == 1 and not is_row_of_colors else label


def _as_colors(label: np.ndarray, where: str) -> np.ndarray:
  if label.dtype == bool:
    label = label.astype(np.uint8) * 255
  if label.dtype != np.uint8 or label.ndim not in (2, 3) or label.shape[2:] not in ((), (3,)):
    raise DataError(
      f"{where}: {label.dtype} values of shape {list(label.shape)} where colors of 8 bits are "
      "expected; save it as RGB, or, if it holds ids, leave --label_colors out"
    )
  return label if label.ndim == 3 else np.repeat(label[..., None], 3, axis=2)


def _load_picture(
  data: bytes, where: str, exif: str, max_pixels: int
) -> tuple[np.ndarray, bytes | None, int]:
  if _is_plain_png(data, where):
    width, height = struct.unpack_from(">II", data, len(picture_bytes.PNG) + 8)
    picture_bytes.check_size(where, height, width, max_pixels)
    if height * width <= picture_bytes.MAX_PIXELS:
      return decode_image(data, where), data, orientation.UPRIGHT
  picture = picture_bytes.open_picture(data, where, max_pixels)
  if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
    raise DataError(f"{where}: {picture.n_frames} pictures in one file; save them one by one")
  turned = orientation.of(picture)
  to_turn = turned if exif == orientation.TURN else orientation.UPRIGHT
  if picture_bytes.png_depth(data) == 16 and picture.mode not in ("I;16", "I"):
    pixels = picture_bytes.decode_deep(data, where)
  else:
    is_jpeg = picture.format in ("JPEG", "MPO")
    if to_turn == orientation.UPRIGHT and _is_kept(picture):
      shape = (picture.height, picture.width, len(picture.getbands()))
      del picture  # of a large one there are not two decodings at once
      with jpeg_damage.refused(where) if is_jpeg else contextlib.nullcontext():
        decoded = decode_image(data, where)
      if is_jpeg:
        jpeg_scans.check(data, where)
      if decoded.shape == shape:
        return decoded, data, turned
      picture = picture_bytes.open_picture(data, where, max_pixels)
    elif is_jpeg:
      jpeg_damage.check(data, where)
    pixels = _to_array(picture)
  return orientation.turned(pixels, to_turn), None, turned


def _is_kept(picture: Image.Image) -> bool:
  """Whether its file can be stored: `decode_image` is right for it."""
  return (
    picture.format in _KEPT_FORMATS
    and picture.mode in ("L", "RGB", "RGBA")
    and picture.width * picture.height <= picture_bytes.MAX_PIXELS
  )


def _is_plain_png(data: bytes, where: str) -> bool:
  """Whether `decode_image` is right for these bytes; DataError for a damaged PNG.

  Saves Pillow's decoding, which is the better part of reading a large picture.
  """
  if not data.startswith(picture_bytes.PNG + b"\0\0\0\x0dIHDR"):
    return False
  kinds = picture_bytes.png_chunks(data, where)
  depth, color = struct.unpack_from("BB", data, len(picture_bytes.PNG) + 16)
  return depth == 8 and color in (_PNG_GRAY, _PNG_RGB, _PNG_RGBA) and not kinds & _PNG_SPECIAL


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


def _fit_channels(where: str, pixels: np.ndarray, channels: int | None) -> np.ndarray:
  """`pixels` itself when nothing is to be done."""
  if pixels.shape[2] == channels:
    return pixels
  # Two and four channels of a picture file are gray or color with alpha.
  is_alpha = pixels.shape[2] in (2, 4) and picture_bytes.suffix_of(where) not in (
    ".npy",
    *tiff.SUFFIXES,
  )
  if is_alpha and channels in (None, 1, 3) and (pixels[..., -1] == 255).all():
    pixels = pixels[..., :-1]
  if channels is None or pixels.shape[2] == channels:
    return pixels
  if pixels.shape[2] == 1 and channels == 3:
    return np.repeat(pixels, 3, axis=2)
  first = ""
  if pixels.shape[0] == channels:
    first = f" (shape {list(pixels.shape)}: if channels come first, save it as [H, W, C])"
  raise DataError(
    f"{where}: {pixels.shape[2]} channels instead of {channels}{first}; convert it, or, to "
    "train on such pictures, prepare the data with another --channels"
  )
