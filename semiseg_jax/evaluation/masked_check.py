"""Looks through a folder of pictures with masks before any is evaluated: all faults at once.

Masks are decoded, as their ids must be known.  Of JPEG and PNG pictures checksums or an eighth of
the pixels are read, which finds what is truncated or damaged; other kinds are rare and decoded.
"""

import hashlib
import io
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from semiseg_jax.data import jpeg_damage, orientation, picture_bytes, picture_sizes, pictures
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation.run import read_ahead
from semiseg_jax.progress import track
from semiseg_jax.wording import counted

_JPEG = b"\xff\xd8\xff"
_DEEP = 8  # bits above which a picture needs a range of values, which reading it tells
_LONG = 50  # pairs from which on a line of progress is shown
Pair = tuple[pathlib.Path, pathlib.Path]  # picture, mask


class Looked(NamedTuple):
  """A pair that was looked at.

  Attributes:
    size: (H, W) of the picture, None where its head does not tell.
    digests: SHA-256 of both files, hex; '' of what cannot be read.
    problem: what is wrong with it, a line; '' where nothing is.
    strange: ids of the mask that are neither a class nor ignored.
  """

  size: tuple[int, int] | None
  digests: tuple[str, str]
  problem: str = ""
  strange: tuple[int, ...] = ()


def look(
  pairs: Sequence[Pair],
  strange: Callable[[np.ndarray], list[int]],
  reading: Mapping[str, Any],
  channels: int,
) -> list[Looked]:
  """Returns what is to be said of each pair.

  Args:
    pairs: files.
    strange: ids of a mask [H,W] that are neither a class nor ignored.
    reading: arguments of `read_picture`.
    channels: of the pictures.
  """
  one = lambda pair: _look(pair, strange, reading, channels)
  found = read_ahead(one, pairs)
  return list(track(found, total=len(pairs), title="check") if len(pairs) >= _LONG else found)


def broken(files: Sequence[pathlib.Path], reading: Mapping[str, Any], channels: int) -> list[str]:
  """Returns a line for each picture that cannot be read."""
  lines = (_problem(lambda file=file: _check(file, reading, channels)) for file in files)
  return [line for line in lines if line]


def complain(looked: Sequence[Looked], others: Sequence[str], advice: Callable[..., str]) -> None:
  """Raises DataError of all problems at once, where there are any.

  Args:
    looked: the pairs.
    others: lines on pictures without a mask, said here only beside other problems.
    advice: what to do about strange ids, given all of them.
  """
  problems = [one.problem for one in looked if one.problem]
  if not problems:
    return
  strange = sorted({id_ for one in looked for id_ in one.strange})
  head = counted(len(problems), "picture or mask is", "pictures or masks are")
  head = f"{head} not fit to be evaluated (of {counted(len(looked), 'pair')}), mend or remove them"
  head += f" ({advice(strange)}):" if strange else ":"
  raise DataError.of_all(head, [*problems, *others])


def _look(
  pair: Pair,
  strange: Callable[[np.ndarray], list[int]],
  reading: Mapping[str, Any],
  channels: int,
) -> Looked:
  picture, mask = pair
  exif, ids, digests = reading.get("exif", orientation.TURN), [], ["", ""]
  size = picture_sizes.size_of(picture, exif)

  def check() -> None:
    digests[0] = _check(picture, reading, channels)
    data = picture_bytes.read_bytes(mask)
    digests[1] = hashlib.sha256(data).hexdigest()
    label = pictures.decode_label(data, str(mask), grays=True, exif=exif)
    ids.extend(strange(label))
    if ids:
      more = ", ..." if len(ids) > 9 else ""
      what = f"{', '.join(map(str, ids[:9]))}{more}"
      raise DataError(f"{mask}: {what} {'is' if len(ids) == 1 else 'are'} no class and not ignored")
    check_sizes(mask, label.shape[:2], picture, size or label.shape[:2])

  problem = _problem(check)
  return Looked(size, (digests[0], digests[1]), problem, tuple(ids))


def check_sizes(
  mask: pathlib.Path, of_mask: Sequence[int], picture: pathlib.Path, of_picture: Sequence[int]
) -> None:
  """Raises DataError where the sizes (H, W) of a mask and its picture differ."""
  (h, w), (tall, wide) = of_picture, of_mask
  if (h, w) != (tall, wide):
    raise DataError(f"{mask} is {wide}x{tall} and its picture {picture} {w}x{h}: correct one")


def _problem(check: Callable[[], object]) -> str:
  try:
    check()
  except DataError as error:
    return str(error)
  return ""


def _is_truncated(jpeg: bytes) -> bool:
  try:
    with Image.open(io.BytesIO(jpeg)) as picture:
      picture.draft("L", (1, 1))  # an eighth of the sides
      picture.load()
  except picture_bytes.BROKEN:
    return True
  return False


def _check(file: pathlib.Path, reading: Mapping[str, Any], channels: int) -> str:
  """The digest of a picture; DataError where it cannot be read."""
  data, where = picture_bytes.read_bytes(file), str(file)
  depth = picture_bytes.png_depth(data)
  if picture_sizes.size_of(file) is None:
    pictures.decode_picture(data, where, channels=channels, **reading)
  elif depth is not None and depth <= _DEEP:
    picture_bytes.png_chunks(data, where)
  elif data.startswith(_JPEG) and not _is_truncated(data):
    jpeg_damage.check(data, where)
  else:
    pictures.decode_picture(data, where, channels=channels, **reading)
  return hashlib.sha256(data).hexdigest()
