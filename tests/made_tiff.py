"""TIFF files written tag by tag: uncompressed, little-endian, one strip a page (or a plane)."""

import struct

import numpy as np

SHORT, LONG, DOUBLE, ASCII = 3, 4, 12, 2
_SIZES = {SHORT: "H", LONG: "I", DOUBLE: "d"}
_SIGNS = {"u": 1, "i": 2, "f": 3}


def nodata(text):
  """The tag of GDAL, for `tags` of a page."""
  return {42113: (ASCII, text)}


def write(path, *pages, planar=False):
  """Writes pages (array, tags): [H, W] or [H, W, C] and number -> (type, values) or values."""
  content, place = bytearray(b"II*\0\0\0\0\0"), 4
  for array, tags in pages:
    pixels = array if array.ndim == 3 else array[..., None]
    height, width, samples = pixels.shape
    planes = np.moveaxis(pixels, 2, 0) if planar else [pixels]
    starts = []
    for plane in planes:
      starts.append(len(content))
      content += plane.astype(plane.dtype.newbyteorder("<")).tobytes()
      content += b"\0" * (len(content) % 2)
    entries = {
      256: (LONG, (width,)),
      257: (LONG, (height,)),
      258: (SHORT, (8 * pixels.itemsize,) * samples),
      259: (SHORT, (1,)),
      262: (SHORT, (2 if samples in (3, 4) else 1,)),
      273: (LONG, tuple(starts)),
      277: (SHORT, (samples,)),
      278: (LONG, (height,)),
      279: (LONG, (pixels.nbytes // len(starts),) * len(starts)),
      284: (SHORT, (2 if planar else 1,)),
      339: (SHORT, (_SIGNS[pixels.dtype.kind],) * samples),
    }
    extra = samples - (3 if samples in (3, 4) else 1)
    if extra:
      entries[338] = (SHORT, (0,) * extra)
    for number, value in tags.items():
      entries[number] = value if isinstance(value[0], int) and len(value) == 2 else (SHORT, value)
    place = _directory(content, place, entries)
  path.write_bytes(content)
  return path


def _directory(content, place, entries):
  """Appends a directory, whose place is written at `place`; returns where the next is written."""
  packed = {}
  for number, (kind, values) in sorted(entries.items()):
    if kind == ASCII:
      data, count = values.encode() + b"\0", len(values) + 1
    else:
      data, count = struct.pack(f"<{len(values)}{_SIZES[kind]}", *values), len(values)
    if len(data) > 4:
      start = len(content)
      content += data + b"\0" * (len(data) % 2)
      data = struct.pack("<I", start)
    packed[number] = struct.pack("<HHI", number, kind, count) + data.ljust(4, b"\0")
  struct.pack_into("<I", content, place, len(content))
  content += struct.pack("<H", len(packed)) + b"".join(packed.values()) + b"\0" * 4
  return len(content) - 4
