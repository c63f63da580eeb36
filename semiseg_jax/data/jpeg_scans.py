"""Scans that a JPEG lacks although it ends as it should: libjpeg blurs or grays them out silently.

A progressive JPEG sends the 64 coefficients of a block in scans, a band at a time, the lowest bits
last; a sequential one may have a scan for each component.  Source: ITU-T T.81, B.2 and G.1.1.1.
"""

import re
from collections.abc import Iterator

from semiseg_jax.errors import DataError

_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# Behind a scan; 0 stands for a 255 of its data, D0 to D7 restart it, 255 fills.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


def check(data: bytes, where: str) -> None:
  """DataError where scans are missing; what is no whole JPEG is left to the decoder."""
  lowest: dict[int, list[int | None]] = {}  # component -> the lowest bit that each one has
  frame = None
  for marker, content in _segments(data):
    if marker in _SEQUENTIAL + _PROGRESSIVE and len(content) > 5:
      frame = marker
      lowest = {component: [None] * 64 for component in content[6 : 6 + 3 * content[5] : 3]}
    elif marker == _SOS and frame and content and len(content) == 4 + 2 * content[0]:
      first, last, bits = content[-3:] if frame in _PROGRESSIVE else (0, 63, 0)
      for component in content[1:-3:2]:
        if component in lowest and first <= last < 64:
          lowest[component][first : last + 1] = [bits & 15] * (last + 1 - first)
    elif marker == _EOI and any(bit != 0 for bits in lowest.values() for bit in bits):
      raise DataError(
        f"{where}: the JPEG is damaged (its last scans are missing), some of its pixels are made "
        "up; get it again, or leave it out"
      )


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
  """The markers with what follows them, up to the end of the picture."""
  start = 0
  while found := _MARKER.search(data, start):
    marker, start = found[1][0], found.end()
    size = 0 if marker in (_SOI, _EOI, 1) else int.from_bytes(data[start : start + 2])
    yield marker, data[start + 2 : start + size]
    start += size
    if marker == _EOI:
      return
