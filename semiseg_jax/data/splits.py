"""Named lists of ids, and the split of a training set into labeled and unlabeled pictures."""

import collections
import dataclasses
import math
import os
from collections.abc import Collection, Sequence
from typing import Any

from semiseg_jax.data import known_lists, list_files
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.errors import SHOWN, DataError

_ALL = (
  "train on all of data.train, labeled ones included, as unlabeled (--config.data.unlabeled=all)"
)


@dataclasses.dataclass(frozen=True)
class IdList:
  """Ids in order; `name` says where they come from, `known` which published list they are."""

  name: str
  ids: tuple[str, ...]
  known: str | None = None

  @property
  def sha256(self) -> str:
    """In hexadecimal, of the ids in UTF-8, each followed by a newline."""
    return known_lists.digest(self.ids)

  @property
  def title(self) -> str:
    """The name, and what published list it is."""
    return f"{self.name}: {self.known}" if self.known else self.name

  def describe(self) -> dict[str, Any]:
    """What results keep of the list, plain JSON values."""
    return {
      "name": self.name,
      "ids": len(self.ids),
      "sha256": self.sha256,
      "known_as": self.known,
    }


@dataclasses.dataclass(frozen=True)
class Split:
  """The pictures of a run; `unlabeled` may be empty, and contains `labeled` when 'all' is asked."""

  labeled: IdList
  unlabeled: IdList


def read_ids(file: str | os.PathLike, known: Collection[str], suffix: str = "") -> tuple[str, ...]:
  """Reads a list file: one picture per line, in any of the formats of `list_files`.

  CRLF, a byte order mark and empty lines are tolerated.

  Args:
    file: the list.
    known: the ids there are.
    suffix: what names have between id and file suffix.

  Raises:
    DataError: the file is missing, is no text, or is empty; lines are not alike, or name no
      picture, or a picture and another one's label; ids are repeated: all of it is named.
  """
  ids, problems = parse_ids(file, known, suffix)
  if problems:
    raise DataError.of_all(f"list file {file} cannot be used:", problems)
  return ids


def parse_ids(
  file: str | os.PathLike, known: Collection[str], suffix: str = ""
) -> tuple[tuple[str, ...], list[str]]:
  """The known ids of a list file as `read_ids` takes them, and a line on each problem."""
  try:
    lines = list_files.read_lines(file)
  except (OSError, UnicodeDecodeError) as error:
    mend = "correct the path" if isinstance(error, OSError) else "save it as UTF-8 text"
    return (), [f"list file {file} cannot be read ({error}); {mend}"]
  names = list_files.Names(known, suffix)
  ids, problems, layouts = [], [], {}
  for number, text in lines:
    line = list_files.read_line(text, names)
    if line.id is None:
      problems.append(f"{file}, line {number}: {line.problem}")
      continue
    ids.append(line.id)
    layouts.setdefault(line.layout, number)
  first, *others = layouts.items() or [None]
  problems += [
    f"{file}, line {number}: {layout}, but line {first[1]} has {first[0]}; write all lines alike"
    for layout, number in others
  ]
  if ids or not problems:
    problems += _problems_of(str(file), ids)
  return tuple(dict.fromkeys(ids)), problems


def resolve(dataset: Dataset, spec: str) -> IdList:
  """The list `spec`: a name stored in the dataset ('train', 'labeled_1_8') or a list file's path.

  Raises:
    DataError: no such list, or an id in it is missing from the dataset, or repeated, or none.
  """
  if spec in dataset.info.lists:
    ids = dataset.info.lists[spec]
    _check_ids(spec, ids)
    _check_stored(dataset, spec, ids)
    return recognize(spec, ids)
  if not os.path.isfile(spec):
    names = ", ".join(sorted(dataset.info.lists)) or "none"
    hint = ', or train without evaluation (--config.data.val="")' if spec == "val" else ""
    raise DataError(
      f"{spec!r} is neither a list of dataset {dataset.info.name!r} (which has: "
      f"{names}) nor a file; correct the name or the path{hint}"
    )
  return recognize(spec, read_ids(spec, frozenset(dataset.info.ids)))


def recognize(name: str, ids: Sequence[str], train: Collection[str] = ()) -> IdList:
  """The list `name` with what published list it is; `train` as in `known_lists.name_of`."""
  return IdList(name, tuple(ids), known_lists.name_of(ids, train))


def make_split(
  dataset: Dataset | JoinedDataset, labeled: str, unlabeled: str | None, train: str
) -> Split:
  """Resolves the lists of a run.

  Args:
    dataset: the dataset that holds the pictures, maybe joined with one for unlabeled pictures.
    labeled: the list whose labels are used.
    unlabeled: 'rest' (train without labeled), 'all' (train, labeled pictures included, their
      labels hidden), another list, or None for a method that uses no unlabeled pictures. With a
      joined dataset, of the second: 'rest' (train without labeled and all of the second), 'all'
      (all of the second), or a list of the second.
    train: the list of all training pictures, which must contain the labeled ones.

  Raises:
    DataError: naming the ids: unknown, repeated, in both lists, outside `train`, without a label.
  """
  main = dataset.first if isinstance(dataset, JoinedDataset) else dataset
  labeled_ids, train_ids = resolve(main, labeled), resolve(main, train)
  _check_labeled(main, labeled_ids, train_ids)
  labeled_ids = recognize(labeled_ids.name, labeled_ids.ids, train_ids.ids)
  if isinstance(dataset, JoinedDataset):
    return Split(labeled_ids, _second_unlabeled(dataset, labeled_ids, unlabeled, train_ids))
  return Split(labeled_ids, _unlabeled(dataset, labeled_ids, unlabeled, train_ids))


def check_disjoint(first: IdList, second: IdList) -> None:
  """DataError naming the ids that both lists hold."""
  common = sorted(set(first.ids) & set(second.ids))
  if common:
    shown = ", ".join(map(repr, common[:SHOWN])) + (", ..." if len(common) > SHOWN else "")
    raise DataError(
      f"{shown} is in list {first.name!r} and in list {second.name!r} "
      f"({len(common)} such ids); take them off one list"
    )


def _check_labeled(dataset: Dataset, labeled: IdList, train: IdList) -> None:
  info, inside = dataset.info, set(train.ids)
  problems = [
    f"{id_!r} has no label in dataset {info.name!r}; prepare it with its label or take it off the "
    "list"
    for id_ in labeled.ids
    if not info.labeled[dataset.index(id_)]
  ]
  problems += [
    f"{id_!r} is not in the training list {train.name!r}; correct one of the lists"
    for id_ in labeled.ids
    if id_ not in inside
  ]
  if problems:
    raise DataError.of_all(f"labeled list {labeled.name!r} cannot be used:", problems)


def _unlabeled(dataset: Dataset, labeled: IdList, unlabeled: str | None, train: IdList) -> IdList:
  if unlabeled is None:
    return IdList("none", ())
  if unlabeled == "all":
    return dataclasses.replace(train, name=f"{train.name} (all)")
  if unlabeled == "rest":
    rest = _rest(labeled, train)
    if not rest.ids:
      raise DataError(
        f"list {rest.name!r} is empty: no unlabeled pictures are left; name others "
        f"(--config.data.unlabeled, --config.data.unlabeled_root), {_ALL}, or choose a method that "
        "needs none (--config.method.name=supervised)"
      )
    return rest
  named = resolve(dataset, unlabeled)
  if set(labeled.ids) <= set(named.ids):
    raise DataError(
      f"list {named.name!r} of unlabeled pictures holds all of {labeled.name!r}; take them off it, "
      f"or {_ALL}"
    )
  check_disjoint(labeled, named)
  return named


def _rest(labeled: IdList, train: IdList) -> IdList:
  taken = set(labeled.ids)
  ids = tuple(id_ for id_ in train.ids if id_ not in taken)
  known = known_lists.name_of(ids)
  if known is None and train.known and labeled.known:
    known = f"{train.known} without {labeled.known}"
  return IdList(f"{train.name} without {labeled.name}", ids, known)


def _second_unlabeled(
  joined: JoinedDataset, labeled: IdList, unlabeled: str | None, train: IdList
) -> IdList:
  if unlabeled is None:
    return IdList("none", ())
  second = joined.second
  if unlabeled not in ("all", "rest"):
    named = resolve(second, unlabeled)
    return IdList(f"{named.name} of {second.info.name}", joined.of_second(named.ids), named.known)
  every = IdList(f"all of {second.info.name}", joined.of_second(second.info.ids))
  if unlabeled == "all":
    return every
  rest = _rest(labeled, train)
  return IdList(f"{rest.name}, and {every.name}", rest.ids + every.ids)


def _problems_of(name: str, ids: Sequence[str]) -> list[str]:
  if not ids:
    return [f"list {name!r} is empty; give at least one id, or leave the list out"]
  return [
    f"list {name!r} names {id_!r} {times} times; remove the repetition"
    for id_, times in collections.Counter(ids).items()
    if times > 1
  ]


def _check_stored(dataset: Dataset, name: str, ids: Sequence[str]) -> None:
  """DataError when a stored list is not the one that was counted: its labels have other pixels."""
  info = dataset.info
  if name not in info.list_pixels:
    return
  places = [dataset.index(id_) for id_ in ids]
  pixels = sum(math.prod(info.sizes[place]) for place in places if info.labeled[place])
  if pixels != sum(info.list_pixels[name]):
    raise DataError(
      f"list {name!r} of {dataset.root} is not as it was stored: lists/{name}.txt was edited or is "
      "damaged; prepare the dataset again, and give own lists as files"
    )


def _check_ids(name: str, ids: Sequence[str]) -> None:
  problems = _problems_of(name, ids)
  if problems:
    raise DataError.of_all(f"list {name!r} cannot be used:", problems)
