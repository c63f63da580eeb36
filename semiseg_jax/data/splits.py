"""Named lists of ids, and the split of a training set into labeled and unlabeled pictures."""

import collections
import dataclasses
import math
import os
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from semiseg_jax.data import known_lists, list_files
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.errors import SHOWN, DataError
from semiseg_jax.wording import counted

_ALL = (
  "train on all of data.train, labeled ones included, as unlabeled (--config.data.unlabeled=all)"
)
FEW = 10  # evaluated pictures on which a score says little
STORED = "stored"  # the unlabeled pictures are those that have stored targets
_SOURCE = re.compile(r"[a-z][a-z0-9_]*")
_NO_SOURCES = ("labeled", "unlabeled", "val")  # what a run has of its own


@dataclasses.dataclass(frozen=True)
class IdList:
  """Ids in order.

  Attributes:
    name: of the list; of a file its stem and the start of its digest, so that results of two files
      of one stem are told apart.
    ids: the ids.
    known: which published list they are.
    labeled: of a named source, whether all its pictures have labels; otherwise None.
    notes: what the start of a run says of it.
    path: the file, None of lists of a dataset.
  """

  name: str
  ids: tuple[str, ...]
  known: str | None = None
  labeled: bool | None = None
  notes: tuple[str, ...] = ()
  path: str | None = None

  @property
  def place(self) -> str:
    """What one corrects: the file, or the name."""
    return self.path or self.name

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
      **({} if self.path is None else {"path": self.path}),
      **({} if self.labeled is None else {"labeled": self.labeled}),
    }


@dataclasses.dataclass(frozen=True)
class Split:
  """The sources of pictures of a run.

  Attributes:
    labeled: pictures whose labels are used.
    unlabeled: may be empty, and contains `labeled` when 'all' is asked.
    more: further sources by name.
  """

  labeled: IdList
  unlabeled: IdList
  more: Mapping[str, IdList] = dataclasses.field(default_factory=dict)

  def lists(self) -> dict[str, IdList]:
    """Every source by its name."""
    return {"labeled": self.labeled, "unlabeled": self.unlabeled, **self.more}

  def ids(self, source: str) -> tuple[str, ...]:
    """The ids of a source; DataError when there is none of this name."""
    lists = self.lists()
    if source not in lists:
      raise DataError(
        f"no source {source!r} of pictures, only {', '.join(lists)}; name its list "
        f'(--config.data.sources="{source}=LIST,")'
      )
    return lists[source].ids


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
  return _read(file, known, suffix).ids


def _read(file: str | os.PathLike, known: Collection[str], suffix: str = "") -> IdList:
  ids, problems, notes = parse_ids(file, known, suffix)
  if problems:
    raise DataError.of_all(f"list file {file} cannot be used:", problems)
  name = f"{pathlib.Path(file).stem}-{known_lists.digest(ids)[:8]}"
  return IdList(name, ids, notes=notes, path=str(file))


def parse_ids(
  file: str | os.PathLike, known: Collection[str], suffix: str = "", prefix: str = ""
) -> tuple[tuple[str, ...], list[str], tuple[str, ...]]:
  """The known ids of a list file as `read_ids` takes them.

  Returns:
    Ids, a line on each problem, and notes on what is left out without being one.
  """
  try:
    lines = list_files.read_lines(file)
  except (OSError, UnicodeDecodeError) as error:
    mend = "correct the path" if isinstance(error, OSError) else "save it as UTF-8 text"
    return (), [f"list file {file} cannot be read ({error}); {mend}"], ()
  names = list_files.Names(known, suffix, prefix)
  ids, problems, layouts, notes = [], [], {}, []
  for number, text in lines:
    line = list_files.read_line(text, names)
    if line.problem:
      problems.append(f"{file}, line {number}: {line.problem}")
      continue
    layouts.setdefault(line.layout, number)
    if line.id is None:
      notes.append(
        f"{list_files.DEFECTIVE} of {file} is left out: a picture of one color as it was published"
      )
    else:
      ids.append(line.id)
  first, *others = layouts.items() or [None]
  problems += [
    f"{file}, line {number}: {layout}, but line {first[1]} has {first[0]}; write all lines alike"
    for layout, number in others
  ]
  if ids or not problems:
    problems += _problems_of(str(file), ids)
  return tuple(dict.fromkeys(ids)), problems, tuple(dict.fromkeys(notes))


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
  read = _read(spec, frozenset(dataset.info.ids))
  return dataclasses.replace(read, known=known_lists.name_of(read.ids))


def recognize(name: str, ids: Sequence[str], train: Collection[str] = ()) -> IdList:
  """The list `name` with what published list it is; `train` as in `known_lists.name_of`."""
  return IdList(name, tuple(ids), known_lists.name_of(ids, train))


def make_split(
  dataset: Dataset | JoinedDataset,
  labeled: str,
  unlabeled: str | None,
  train: str,
  sources: Sequence[str] = (),
  stored: Sequence[str] | None = None,
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
    sources: further sources, see `resolve_sources`.
    stored: the ids with stored targets, which `unlabeled` 'stored' stands for; None: there are
      none.

  Raises:
    DataError: naming the ids: unknown, repeated, in both lists, outside `train`, without a label;
      or what is wrong with the sources.
  """
  main = dataset.first if isinstance(dataset, JoinedDataset) else dataset
  labeled_ids, train_ids = resolve(main, labeled), resolve(main, train)
  _check_labeled(main, labeled_ids, train_ids)
  named = known_lists.name_of(labeled_ids.ids, train_ids.ids)
  labeled_ids = dataclasses.replace(labeled_ids, known=named)
  if unlabeled == STORED:
    unlabeled_ids = _stored(stored)
  elif isinstance(dataset, JoinedDataset):
    unlabeled_ids = _second_unlabeled(dataset, labeled_ids, unlabeled, train_ids)
  else:
    unlabeled_ids = _unlabeled(dataset, labeled_ids, unlabeled, train_ids)
  return Split(labeled_ids, unlabeled_ids, resolve_sources(dataset, sources))


def resolve_sources(dataset: Dataset | JoinedDataset, texts: Sequence[str]) -> dict[str, IdList]:
  """The further sources of a run by name.

  Args:
    dataset: what holds their pictures; of a joined one, lists are those of the first and files
      may name pictures of both.
    texts: "NAME=LIST" each, a list as in `resolve`.

  Raises:
    DataError: naming all problems: a text that is not of this form, a name that is taken or given
      twice, a list that cannot be used.
  """
  sources, problems = {}, []
  for text in texts:
    name, _, spec = (part.strip() for part in text.partition("="))
    if not _SOURCE.fullmatch(name) or not spec:
      problems.append(f"{text!r}: write NAME=LIST, the name of a-z, 0-9 and _")
    elif name in _NO_SOURCES or name in sources:
      problems.append(f"{text!r}: there is a list {name!r} already; choose another name")
    else:
      sources[name], problem = _source(dataset, spec)
      problems += [f"{text!r}: {problem}"] if problem else []
  if problems:
    raise DataError.of_all("data.sources cannot be used:", problems)
  return sources


def _source(dataset: Dataset | JoinedDataset, spec: str) -> tuple[IdList | None, str]:
  """The list and "", or None and what is wrong with it."""
  try:
    ids = resolve(dataset, spec)
  except DataError as error:
    return None, str(error)
  labeled = all(dataset.info.labeled[dataset.index(id_)] for id_ in ids.ids)
  return dataclasses.replace(ids, labeled=labeled), ""


def check_disjoint(first: IdList, second: IdList) -> None:
  """DataError naming the ids that both lists hold."""
  problem = _common(first, second)
  if problem:
    raise DataError(problem)


def check_held_out(split: Split, val: IdList) -> None:
  """DataError naming the ids of `val` that a source holds, of every source."""
  problems = [problem for ids in split.lists().values() if (problem := _common(ids, val))]
  if len(problems) > 1:
    raise DataError.of_all("validation pictures are trained on:", problems)
  if problems:
    raise DataError(problems[0])


def _common(first: IdList, second: IdList) -> str:
  common = sorted(set(first.ids) & set(second.ids))
  if not common:
    return ""
  shown = ", ".join(map(repr, common[:SHOWN])) + (", ..." if len(common) > SHOWN else "")
  return (
    f"{shown} is in list {first.place!r} and in list {second.place!r} "
    f"({counted(len(common), 'such id')}); take them off one list"
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
    f"{id_!r} is not in the training list {train.place!r}; correct one of the lists"
    for id_ in labeled.ids
    if id_ not in inside
  ]
  if problems:
    raise DataError.of_all(f"labeled list {labeled.place!r} cannot be used:", problems)


def _stored(ids: Sequence[str] | None) -> IdList:
  if ids is None:
    raise DataError(
      f"data.unlabeled={STORED!r} stands for the pictures of data.targets, and there are no such "
      "targets here: name a list"
    )
  return IdList("with stored targets", tuple(ids))


def _unlabeled(dataset: Dataset, labeled: IdList, unlabeled: str | None, train: IdList) -> IdList:
  if unlabeled is None:
    return IdList("none", ())
  if unlabeled == "all":
    return dataclasses.replace(train, name=f"{train.name} (all)", path=None)
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
  if known_lists.are_published_together(labeled.ids, named.ids):
    shared = len(set(labeled.ids) & set(named.ids))
    are = "picture is" if shared == 1 else "pictures are"
    note = f"{shared} {are} labeled and unlabeled at once, as these two lists were published"
    return dataclasses.replace(named, notes=(*named.notes, note))
  if set(labeled.ids) <= set(named.ids):
    raise DataError(
      f"list {named.place!r} of unlabeled pictures holds all of {labeled.place!r}; take them off "
      f"it, or {_ALL}"
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
    name = f"{named.name} of {second.info.name}"
    return dataclasses.replace(named, name=name, ids=joined.of_second(named.ids))
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
  """DataError when a stored list has other ids than it was stored with.

  Lists of earlier versions are known by their labels' pixels only.
  """
  info = dataset.info
  if name in info.list_sha256:
    if known_lists.digest(ids) != info.list_sha256[name]:
      raise _edited(dataset, name)
    return
  if name not in info.list_pixels:
    return
  places = [dataset.index(id_) for id_ in ids]
  pixels = sum(math.prod(info.sizes[place]) for place in places if info.labeled[place])
  if pixels != sum(info.list_pixels[name]):
    raise _edited(dataset, name)


def _edited(dataset: Dataset, name: str) -> DataError:
  return DataError(
    f"list {name!r} of {dataset.root} is not as it was stored: lists/{name}.txt was edited or is "
    "damaged; put it back, or replace it (`python -m data_prep.splits ... --add --overwrite`) or "
    "prepare the dataset again; own lists are given as files, by their path"
  )


def _check_ids(name: str, ids: Sequence[str]) -> None:
  problems = _problems_of(name, ids)
  if problems:
    raise DataError.of_all(f"list {name!r} cannot be used:", problems)
