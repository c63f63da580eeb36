"""Lists of cross-validation and of a hold-out: whole groups, each class in its share."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from data_prep import partition
from semiseg_jax.data import splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import OptionError
from semiseg_jax.wording import counted

Lists = dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Division:
  """How the pictures of a list are divided into pictures to train with and to evaluate.

  Attributes:
    of: a list of the dataset, or a file of ids; its pictures without a label are trained with.
    folds: number of parts, each of which is evaluated once; 0 for a hold-out.
    holdout: share of the labeled pictures that is evaluated, of a hold-out.
    group: a regular expression, see `partition.group_names`; "" divides single pictures.
    stratified: each class gets its share of each part.
    seed: of the lots.
  """

  of: str
  folds: int = 0
  holdout: float = 0.0
  group: str = ""
  stratified: bool = True
  seed: int = 0

  @property
  def prefixes(self) -> list[str]:
    """What the names of the lists begin with."""
    return [f"fold_{i}" for i in range(self.folds)] if self.folds else ["holdout"]


def lists_of(
  dataset: Dataset, division: Division, ids: Sequence[str], pixels: np.ndarray
) -> list[Lists]:
  """The lists of each fold: 'train', 'val', and 'labeled' where 'train' has pictures without label.

  Pictures without a label whose group is evaluated are on no list of that fold.

  Args:
    dataset: holds the pictures.
    division: how.
    ids: those of `division.of`.
    pixels: their `class_pixels`.

  Raises:
    DataError: too few labeled pictures or groups, a pattern that finds no group in an id.
  """
  labeled = np.array([dataset.info.labeled[dataset.index(id_)] for id_ in ids], bool)
  groups = np.array(partition.group_names(ids, division.group) if division.group else ids)
  wanted = wanted_sizes(int(labeled.sum()), division.folds, division.holdout)
  shown = pixels[labeled, :-1] > 0 if division.stratified else np.zeros((labeled.sum(), 0), bool)
  parts = np.full(len(ids), -1)
  parts[labeled] = partition.divide(groups[labeled], shown, wanted, division.seed)
  evaluated = range(division.folds) if division.folds else [1]
  return [_of_fold(ids, labeled, groups, parts == part) for part in evaluated]


def say_copies(
  dataset: Dataset,
  fold: Lists,
  prefix: str,
  ids: Sequence[str],
  pixels: np.ndarray,
  say: Callable[[str], None],
) -> None:
  """Says which evaluated pictures have a copy with an equal label that is trained on.

  Args:
    dataset: holds the pictures.
    fold: the lists of a fold.
    prefix: of their names.
    ids: of all N pictures.
    pixels: [N, K + 1], their `class_pixels`; of others than equal ones no picture is read.
    say: is told.
  """
  look = {id_: row.tobytes() for id_, row in zip(ids, pixels) if row.any()}
  both = {look.get(id_) for id_ in fold["val"]} & {look.get(id_) for id_ in fold["train"]} - {None}
  trained: dict[bytes, str] = {}
  pairs = []
  for name in ("train", "val"):
    for id_ in (id_ for id_ in fold[name] if look.get(id_) in both):
      digest = dataset.record(dataset.index(id_)).image_digest()
      if name == "train":
        trained.setdefault(digest, id_)
      elif digest in trained:
        pairs.append(f"{id_} = {trained[digest]}")
  if pairs:
    say(
      f"NOTE: {len(pairs)} of {prefix}_val are copies of pictures in {prefix}_train: "
      f"{', '.join(pairs[:5])}{', ...' if len(pairs) > 5 else ''}; scores on them say nothing of "
      "others; prepare the data without copies, or keep them together with --group"
    )


def wanted_sizes(count: int, folds: int, holdout: float) -> list[int]:
  """Numbers of pictures of the folds, or of the two parts of a hold-out, training first.

  Raises:
    DataError: too few labeled pictures, a share that is none.
  """
  if folds:
    if count < folds:
      raise OptionError(f"--folds {folds}: only {counted(count, 'labeled picture')}; ask for fewer")
    return partition.shares(count, folds)
  if not 0 < holdout < 1:
    raise OptionError(f"--holdout {holdout:g}: give a share between 0 and 1")
  held = max(round(holdout * count), 1)
  if held >= count:
    raise OptionError(
      f"--holdout {holdout:g} takes {held} of {counted(count, 'labeled picture')} and leaves none "
      "to train "
      "with; lower it, or label more"
    )
  return [count - held, held]


def _of_fold(
  ids: Sequence[str], labeled: np.ndarray, groups: np.ndarray, evaluated: np.ndarray
) -> Lists:
  trained = ~np.isin(groups, groups[evaluated])
  masks = {"train": trained, "val": evaluated}
  masks |= {} if labeled.all() else {"labeled": trained & labeled}
  return {name: tuple(ids[i] for i in np.flatnonzero(mask)) for name, mask in masks.items()}


def report(
  lists: Lists,
  prefix: str,
  division: Division,
  classes: Sequence[str],
  ids: Sequence[str],
  pixels: np.ndarray,
) -> str:
  """Of each list the pictures, the groups, and the classes that it lacks though others show them.

  Args:
    lists: of one fold.
    prefix: of their names.
    division: how they came about.
    classes: names of the K classes.
    ids: of all N pictures.
    pixels: [N, K + 1], their `class_pixels`.
  """
  at = {id_: i for i, id_ in enumerate(ids)}
  there = (pixels[:, :-1] > 0).sum(0)
  lines = []
  for name, members in lists.items():
    here = (pixels[[at[id_] for id_ in members], :-1] > 0).sum(0)
    lines.append(f"{prefix}_{name}: {len(members)} of {counted(len(ids), 'picture')}")
    if division.group:
      lines[-1] += f" of {partition.describe(partition.group_names(members, division.group))}"
    lines += [
      f"  LACKS {label} ({_shown_by(there[k])}): {_consequence(name)}"
      for k, label in enumerate(classes)
      if there[k] > here[k] == 0
    ]
    if name == "val" and len(members) < splits.FEW:
      lines.append(f"  NOTE  scores on {counted(len(members), 'picture')} say little")
  left_out = len(set(ids) - {id_ for members in lists.values() for id_ in members})
  if left_out:
    one = "picture without a label is on no list: its group is"
    many = "pictures without a label are on no list: their groups are"
    lines.append(f"{counted(left_out, one, many)} in {prefix}_val")
  return "\n".join(lines)


def _shown_by(count: int) -> str:
  return counted(count, "picture shows it", "pictures show it")


def _consequence(name: str) -> str:
  return "no score says how well it is found" if name == "val" else "nothing teaches it"
