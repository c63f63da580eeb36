"""Whether a compressed file keeps the values that were written: by its content, not its name."""

import io
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

_ALWAYS = ("PNG", "BMP", "DIB", "GIF", "PPM", "TGA")
# None, CCITT, LZW, Deflate, PackBits, LZMA, Zstandard.
_TIFF_COMPRESSIONS = (1, 2, 3, 4, 5, 8, 32771, 32773, 32946, 34925, 50000)
_TIFF_STREAMS = {50001: "WEBP", 34712: "JPEG2000", 33003: "JPEG2000", 33005: "JPEG2000"}
_TIFF_COMPRESSION = 259
_TIFF_PLACES = ((273, 279), (324, 325))  # tags of places and sizes: of strips, of tiles
_JPEG2000 = b"\xff\x4f\xff\x51"  # start of a codestream and its sizes
_CODING, _TILES = b"\xff\x52", b"\xff\x90"  # markers of JPEG 2000: coding style, first tile
_REVERSIBLE = 1  # the wavelet of integers, 5/3
_PROGRESSIONS = ("LRCP", "RLCP", "RPCL", "PCRL", "CPRL")


def is_exact(kind: str, data: bytes) -> bool:
  """Whether a file holds the very values that were written.

  Args:
    kind: the format as Pillow calls it; of others than these None is known to be exact.
    data: its content; of a TIFF that of a strip or tile with its own compression.
  """
  if kind == "WEBP":
    kinds = _webp_chunks(data)
    return b"VP8L" in kinds and b"VP8 " not in kinds
  if kind == "JPEG2000":
    return _is_exact_jpeg2000(data)
  return kind in _ALWAYS


def tiff_is_exact(tags: Mapping[int, Any], data: bytes) -> bool:
  """Whether a page of a TIFF holds the very values that were written.

  Args:
    tags: of the page, a number or a tuple of each.
    data: the content of the whole file.
  """
  compression = _numbers(tags, _TIFF_COMPRESSION, 1)[0]
  if compression in _TIFF_COMPRESSIONS:
    return True
  kind = _TIFF_STREAMS.get(compression)
  places = [
    pair for at, size in _TIFF_PLACES for pair in zip(_numbers(tags, at), _numbers(tags, size))
  ]
  return bool(kind and places) and all(is_exact(kind, data[at : at + n]) for at, n in places)


def _numbers(tags: Mapping[int, Any], tag: int, *default: int) -> tuple[int, ...]:
  found = tags.get(tag, default)
  return found if isinstance(found, tuple) else (found,)


def _webp_chunks(data: bytes) -> list[bytes]:
  """The kinds of chunks in a WebP file."""
  kinds, start = [], 12
  while start + 8 <= len(data):
    kinds.append(data[start : start + 4])
    size = int.from_bytes(data[start + 4 : start + 8], "little")
    start += 8 + size + size % 2
  return kinds


def _is_exact_jpeg2000(data: bytes) -> bool:
  """Whether the pixels, when written without loss, become this very stream.

  The wavelet of integers does not say it: a stream may be cut off to a rate.  What another encoder
  than OpenJPEG wrote whole is not known to be exact.
  """
  start = max(data.find(_JPEG2000), 0)
  sizes, tiles = data[start:], data.find(_TILES, start)
  at = data.find(_CODING, start, tiles)
  if at < 0 or data[at + 13] != _REVERSIBLE:
    return False
  size, tile = (struct.unpack_from(">II", sizes, offset) for offset in (8, 24))
  again = io.BytesIO()
  try:
    with Image.open(io.BytesIO(data)) as picture:
      picture.save(
        again,
        "JPEG2000",
        no_jp2=True,
        irreversible=False,
        progression=_PROGRESSIONS[data[at + 5]],
        mct=data[at + 8],
        num_resolutions=data[at + 9] + 1,
        codeblock_size=(4 << data[at + 10], 4 << data[at + 11]),
        **({"tile_size": tile} if tile != size else {}),
      )
  except (OSError, ValueError, IndexError):  # parameters that Pillow does not take
    return False
  stream = again.getvalue()
  return stream[stream.find(_TILES) :] == data[tiles : tiles + len(stream) - stream.find(_TILES)]
