"""Named lists of ids, and the split of a training set into labeled and unlabeled pictures."""

import collections
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Collection, Sequence

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.records import DataError


@dataclasses.dataclass(frozen=True)
class IdList:
  """Ids in order; `name` says where they come from, `sha256` is that of one id per line."""

  name: str
  ids: tuple[str, ...]

  @property
  def sha256(self) -> str:
    """In hexadecimal, of the ids in UTF-8, each followed by a newline."""
    return hashlib.sha256("".join(f"{id_}\n" for id_ in self.ids).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Split:
  """The pictures of a run; `unlabeled` may be empty, and contains `labeled` when 'all' is asked."""

  labeled: IdList
  unlabeled: IdList


def read_ids(file: str | os.PathLike, known: Collection[str], suffix: str = "") -> tuple[str, ...]:
  """Reads a list file: one picture per line.

  A line is an id, a path (`/images/train/ID.png`), or a picture and its label separated by a tab
  or blanks, of which the first counts. What is an id in `known` is taken as it stands, otherwise
  folders, then the file suffix, then `suffix` are cut off. CRLF, a byte order mark and empty
  lines are tolerated.

  Raises:
    DataError: the file is missing, is no UTF-8 text, or is empty, or ids are unknown or repeated,
      all of which are named.
  """
  ids, problems = parse_ids(file, known, suffix)
  if problems:
    raise DataError.of_all(f"list file {file} cannot be used:", problems)
  return ids


def parse_ids(
  file: str | os.PathLike, known: Collection[str], suffix: str = ""
) -> tuple[tuple[str, ...], list[str]]:
  """The known ids of a list file as `read_ids` takes them, and a line on each problem."""
  path = pathlib.Path(file)
  try:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    return (), [f"list file {path} cannot be read ({error}); correct the path"]
  ids, problems = [], []
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    id_ = _to_id(line.strip(), known, suffix)
    if id_ is None:
      problems.append(
        f"{path}, line {number}: {line.strip()!r} names no picture of the dataset; correct the "
        "list or add the picture"
      )
    else:
      ids.append(id_)
  if ids or not problems:
    problems += _problems_of(str(path), ids)
  return tuple(dict.fromkeys(ids)), problems


def resolve(dataset: Dataset, spec: str) -> IdList:
  """The list `spec`: a name stored in the dataset ('train', 'labeled_1_8') or a list file's path.

  Raises:
    DataError: no such list, or an id in it is missing from the dataset, or repeated, or none.
  """
  if spec in dataset.info.lists:
    ids = dataset.info.lists[spec]
    _check_ids(spec, ids)
    return IdList(spec, ids)
  if not os.path.isfile(spec):
    names = ", ".join(sorted(dataset.info.lists)) or "none"
    hint = ', or train without evaluation (--config.data.val="")' if spec == "val" else ""
    raise DataError(
      f"{spec!r} is neither a list of dataset {dataset.info.name!r} (which has: "
      f"{names}) nor a file; correct the name or the path{hint}"
    )
  return IdList(spec, read_ids(spec, frozenset(dataset.info.ids)))


def make_split(dataset: Dataset, labeled: str, unlabeled: str | None, train: str) -> Split:
  """Resolves the lists of a run.

  Args:
    dataset: the dataset that holds the pictures.
    labeled: the list whose labels are used.
    unlabeled: 'rest' (train without labeled), 'all' (train, labeled pictures included, their
      labels hidden), another list, or None for a method that uses no unlabeled pictures.
    train: the list of all training pictures, which must contain the labeled ones.

  Raises:
    DataError: naming the id: unknown, repeated, in both lists, outside `train`, without a label.
  """
  labeled_ids, train_ids = resolve(dataset, labeled), resolve(dataset, train)
  for id_ in labeled_ids.ids:
    if not dataset.info.labeled[dataset.index(id_)]:
      raise DataError(
        f"labeled list {labeled!r}: {id_!r} has no label in dataset "
        f"{dataset.info.name!r}; prepare it with its label or take it off the list"
      )
  inside = set(train_ids.ids)
  for id_ in labeled_ids.ids:
    if id_ not in inside:
      raise DataError(
        f"labeled list {labeled!r}: {id_!r} is not in the training list {train!r}; "
        "correct one of the lists"
      )
  return Split(labeled_ids, _unlabeled(dataset, labeled_ids, unlabeled, train_ids))


def check_disjoint(first: IdList, second: IdList) -> None:
  """DataError naming an id that both lists hold."""
  common = sorted(set(first.ids) & set(second.ids))
  if common:
    raise DataError(
      f"{common[0]!r} is in list {first.name!r} and in list {second.name!r} "
      f"({len(common)} such ids); take them off one list"
    )


def _unlabeled(dataset: Dataset, labeled: IdList, unlabeled: str | None, train: IdList) -> IdList:
  if unlabeled is None:
    return IdList("none", ())
  if unlabeled == "all":
    return IdList(f"{train.name} (all)", train.ids)
  if unlabeled == "rest":
    known = set(labeled.ids)
    rest = tuple(id_ for id_ in train.ids if id_ not in known)
    name = f"{train.name} without {labeled.name}"
    _check_ids(name, rest)
    return IdList(name, rest)
  named = resolve(dataset, unlabeled)
  check_disjoint(labeled, named)
  return named


def _to_id(line: str, known: Collection[str], suffix: str) -> str | None:
  picture = line.split("\t")[0].split()[0]
  base = picture.replace("\\", "/").rsplit("/", 1)[-1]
  stem = base.rsplit(".", 1)[0]
  for candidate in (line, line.split("\t")[0], picture, base, stem, stem.removesuffix(suffix)):
    if candidate in known:
      return candidate
  return None


def _problems_of(name: str, ids: Sequence[str]) -> list[str]:
  if not ids:
    return [f"list {name!r} is empty; give at least one id, or leave the list out"]
  return [
    f"list {name!r} names {id_!r} {times} times; remove the repetition"
    for id_, times in collections.Counter(ids).items()
    if times > 1
  ]


def _check_ids(name: str, ids: Sequence[str]) -> None:
  problems = _problems_of(name, ids)
  if problems:
    raise DataError.of_all(f"list {name!r} cannot be used:", problems)
