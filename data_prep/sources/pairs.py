"""Pictures and labels of a published data set: found by name in its sources, read and checked."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import cv2
import numpy as np

from data_prep.shards.convert import Loaded
from data_prep.sources.archives import Member
from semiseg_jax.data import known_lists, pictures
from semiseg_jax.errors import DataError
from semiseg_jax.wording import counted

Key = tuple[str, ...]
ReadLabel = Callable[[Member], np.ndarray]

_SHOWN_NAMES = 5


@dataclasses.dataclass(frozen=True)
class Pair:
  """A picture and its label, None when there is none; an item of data_prep.convert."""

  id: str
  image: Member
  label: Member | None

  @property
  def bytes(self) -> int:
    """Size of both files."""
    return self.image.size + (self.label.size if self.label else 0)

  @property
  def stamp(self) -> str:
    """Changes when one of the files does."""
    return f"{self.image.stamp} {self.label.stamp if self.label else None}"


def find(
  members: Iterable[Member], pattern: re.Pattern[str], problems: list[str]
) -> dict[Key, Member]:
  """The members whose whole name matches, by what the groups of the pattern matched.

  A file that several sources hold is taken from the first; if its sizes differ, that is a problem.
  """
  found: dict[Key, Member] = {}
  for member in members:
    match = pattern.fullmatch(member.name)
    if match is None:
      continue
    first = found.setdefault(match.groups(), member)
    if first.size != member.size:
      problems.append(
        f"{first.where} ({first.size} bytes) and {member.where} ({member.size} bytes) are two "
        "files of one name; remove one, or give fewer sources"
      )
  return dict(sorted(found.items()))


def load_pair(pair: Pair, read_label: ReadLabel) -> Loaded:
  """An RGB picture and its label; DataError of all that is wrong with the two.

  Args:
    pair: where they are.
    read_label: member -> uint8 [H, W], class ids and IGNORE.
  """
  wrong, picture, label = [], None, None
  try:
    picture = pictures.decode_picture(pair.image.read(), pair.image.where, channels=3)
  except DataError as error:
    wrong.append(str(error))
  if pair.label is not None:
    try:
      label = read_label(pair.label)
    except DataError as error:
      wrong.append(str(error))
  if picture is not None and label is not None and label.shape != picture.pixels.shape[:2]:
    wrong.append(
      f"{pair.label.where}: {label.shape[1]}x{label.shape[0]} pixels, its picture "
      f"{pair.image.where} {picture.pixels.shape[1]}x{picture.pixels.shape[0]}; get both again"
    )
  if wrong:
    raise DataError("\n".join(wrong))
  is_png = pair.image.name.lower().endswith(".png")  # stored without loss anyhow, and decoded once
  return Loaded(picture.pixels if is_png or picture.file is None else picture.file, label)


def look_up(label: np.ndarray, table: np.ndarray, where: str, expected: str) -> np.ndarray:
  """Maps the values of a label file.

  Args:
    label: integers [H, W].
    table: int16 [256], value -> class id or IGNORE, -1 for the values, at least one,
      that must not be there.
    where: the file's name.
    expected: what the values should be, and how to mend others.

  Returns:
    uint8 [H, W].

  Raises:
    DataError: naming the other values.
  """
  bad = table < 0
  inside = label
  if label.dtype != np.uint8:
    outside = (label < 0) | (label > 255)
    inside = np.where(outside, np.flatnonzero(bad)[0], label).astype(np.uint8)
  wrong = cv2.LUT(inside, bad.astype(np.uint8)).view(bool)
  if wrong.any():
    values, counts = np.unique(label[wrong], return_counts=True)
    listed = ", ".join(f"{v} ({counted(n, 'pixel')})" for v, n in zip(values[:8].tolist(), counts))
    more = f" and {counted(len(values) - 8, 'more value')}" if len(values) > 8 else ""
    raise DataError(f"{where}: {listed}{more}; {expected}")
  return cv2.LUT(inside, table.astype(np.uint8))


def check_counts(
  lists: Mapping[str, Sequence[str]],
  official: Mapping[str, int],
  strict: bool,
  say: Callable[[str], None],
) -> list[str]:
  """Compares lists with the published ones, says what they are, and returns what is wrong.

  A list of another length is wrong when `strict`, and otherwise said to differ.
  """
  problems = []
  for name, ids in lists.items():
    known = known_lists.name_of(ids)
    if known is not None:
      say(f"list {name} is the published {known}")
    count = official.get(name, len(ids))
    if len(ids) != count:
      text = f"list {name} has {len(ids):,} pictures, the published one {count:,}"
      problems.append(f"{text}; get the rest, or prepare without --strict")
      say(f"NOTE: {text}. Results are not comparable with published ones.")
  return problems if strict else []


def some(names: Iterable[str]) -> str:
  """The first few names."""
  names = list(names)
  more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
  return ", ".join(names[:_SHOWN_NAMES]) + more
