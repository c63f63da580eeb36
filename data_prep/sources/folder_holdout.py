"""The list 'val' that is taken out of the training pictures: by lot, whole groups, in shares."""

import collections
import dataclasses
from collections.abc import Callable, Container, Mapping, Sequence

import numpy as np

from data_prep import partition
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.errors import DataError, OptionError
from semiseg_jax.wording import counted

Lists = dict[str, tuple[str, ...]]
ClassPixels = Mapping[str, np.ndarray | None]
_APART = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class HoldOut:
  """What is held out.

  Attributes:
    share: of the labeled training pictures; 0 for none.
    group: a regular expression, see `partition.group_names`; pictures of one group go to one list.
    stratify: each class has its share of the list, once the pixels of labels are counted.
  """

  share: float = 0.0
  group: str = ""
  stratify: bool = False

  def apply(
    self, lists: Lists, labels: Container[str], class_pixels: ClassPixels | None = None
  ) -> Lists:
    """The lists 'val' and 'train'.

    Pictures without a label whose group is in 'val' are on neither.

    Args:
      lists: with 'train'; pictures on others are not held out, nor are the groups of these.
      labels: the ids that have a label.
      class_pixels: id -> pixels of the classes and of ignored ones [K + 1], None without a label.

    Raises:
      DataError: a list 'val' that is there, a share that cannot be, too few pictures or groups.
    """
    if "val" in lists:
      raise DataError("a list 'val' and --holdout are both given; choose one")
    if not 0 < self.share < 1:
      raise OptionError(f"--holdout {self.share}: give a share between 0 and 1")
    ids = lists["train"]
    names = dict(zip(ids, partition.group_names(ids, self.group))) if self.group else {}
    labeled = [id_ for id_ in ids if id_ in labels]
    taken = {id_ for name, members in lists.items() if name != "train" for id_ in members}
    taken_groups = {names.get(id_, id_) for id_ in ids if id_ in taken}
    free = [id_ for id_ in labeled if names.get(id_, id_) not in taken_groups]
    count = self._count(len(labeled), len(free))
    shown = class_pixels if self.stratify else None
    held = set(_choose(free, [names.get(id_, id_) for id_ in free], count, bool(names), shown))
    groups = {names.get(id_, id_) for id_ in held}
    return {
      "val": tuple(id_ for id_ in free if id_ in held),
      "train": tuple(id_ for id_ in ids if names.get(id_, id_) not in groups),
    }

  def _count(self, labeled: int, free: int) -> int:
    count = max(round(self.share * labeled), 1)
    if count > free:
      what = "groups that are on no other list" if self.group else "no other list"
      raise OptionError(
        f"--holdout {self.share} asks for {counted(count, 'labeled picture')}, but only {free} "
        f"are {'of' if self.group else 'on'} {what}; lower it, or give a list 'val'"
      )
    if count == labeled:
      raise OptionError(
        f"--holdout {self.share} takes all {counted(count, 'labeled picture')} and leaves none "
        "to train with; "
        "label more, or give the lists 'val' and 'train'"
      )
    return count


def _choose(
  free: Sequence[str],
  groups: Sequence[str],
  count: int,
  grouped: bool,
  class_pixels: ClassPixels | None,
) -> list[str]:
  if class_pixels is None and not grouped:
    return [free[index] for index in np.random.default_rng(0).permutation(len(free))[:count]]
  if count == len(free):
    return list(free)
  shown = np.zeros((len(free), 0), bool)
  if class_pixels is not None:
    shown = np.array([class_pixels[id_][:-1] > 0 for id_ in free])
  parts = partition.divide(groups, shown, [len(free) - count, count], seed=0)
  return [free[index] for index in np.flatnonzero(parts == 1)]


def divided_groups(lists: Lists, group: str) -> list[str]:
  """A line on each group with pictures on more than one of 'train', 'val' and 'test'.

  Raises:
    DataError: the pattern finds no group in an id, or there is but one of these lists.
  """
  there = [name for name in _APART if lists.get(name)]
  if len(there) < 2:
    raise OptionError(
      f"--group {group!r} says which pictures stay together on one of the lists train, val and "
      f"test, but there is only {' and '.join(there) or 'none'}; give --holdout, or a list"
    )
  counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
  for name in there:
    for found in partition.group_names(lists[name], group):
      counts[found][name] += 1
  return [
    f"group {found!r} is on several lists: "
    + " and ".join(f"{name} ({counted(n, 'picture')})" for name, n in on.items())
    + "; keep it on one of them"
    for found, on in counts.items()
    if len(on) > 1
  ]


def say_held(info: DatasetInfo, hold_out: HoldOut, say: Callable[[str], None]) -> None:
  """Says which groups lists hold, what is on none, and which classes the hold-out left out."""
  if hold_out.group:
    groups = {
      name: set(partition.group_names(info.lists[name], hold_out.group))
      for name in _APART
      if name in info.lists
    }
    for name, held in groups.items():
      say(f"  list {name}: {partition.describe(held)}")
    listed = {id_ for members in info.lists.values() for id_ in members}
    others = [id_ for id_, labeled in zip(info.ids, info.labeled) if not labeled | (id_ in listed)]
    found = partition.groups_found(others, hold_out.group)
    left_out = sum(name in groups.get("val", ()) for name in found)
    if left_out:
      one = "picture without a label is on no list: its group is"
      many = "pictures without a label are on no list: their groups are"
      say(f"NOTE: {counted(left_out, one, many)} on 'val'")
  if hold_out.share and not hold_out.stratify:
    pairs = zip(info.classes, info.class_pixels, info.list_pixels["val"])
    absent = [name for name, everywhere, held in pairs if everywhere and not held]
    if absent:
      say(
        f"NOTE: the pictures held out by lot do not show {', '.join(absent)}; --stratify gives "
        "each class its share of them"
      )
