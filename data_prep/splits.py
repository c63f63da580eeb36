"""Chooses the labeled pictures of a dataset by a rule, and shows what is in them.

    python -m data_prep.splits --dataset data/voc --of train_aug --rule every --ratio 16 8 4 2 --add
    python -m data_prep.splits --dataset data/city --order train.txt --rule every --ratio 8 --add
    python -m data_prep.splits --dataset data/mine --rule class_balanced --count 92 \\
        --out lists/labeled_92.txt
    python -m data_prep.splits --dataset data/voc --of train_aug --rule first \\
        --order split_0.pkl --ratio 8 --add labeled_s4gan_1_8

    python -m data_prep.splits --dataset data/mine --folds 5 --group 'patient_\\d+' --add

Rules: `every` r-th id (the published lists of CPS: of VOC over the sorted ids, of Cityscapes over
the order of its train.txt), the `first` ids of an order (s4GAN's and AdvSemiSeg's, which they keep
as pickles of positions among the sorted ids), `random` with a seed, `class_balanced` (few pictures
that stand for all), `stratified` (each class in its share). Lists of several sizes made by one
command are nested, with `every` where each ratio divides the next one. The pictures left over are
the unlabeled ones: --config.data.unlabeled=rest.

--folds K makes fold_0_train, fold_0_val, ... (of them, where pictures lack a label, fold_0_labeled,
too), --holdout SHARE makes holdout_train and holdout_val; both are `stratified` or `random`. With
--group REGEX pictures in whose ids it finds the same are of one group, which never is divided.

    python -m data_prep.splits --dataset data/camvid_half --of train --matching '^0001TP' --add

--matching REGEX makes held_out of the pictures in whose ids it finds something, such as those of
one video, and train_rest (of --of train) of all others.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

import numpy as np

from data_prep import command, fold_lists, matching, partition, split_options, split_rules
from data_prep.fold_lists import Division
from data_prep.sources import permutations
from semiseg_jax import files
from semiseg_jax.data import splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.writing.dataset_lists import add_lists, class_pixels
from semiseg_jax.data.writing.dataset_writer import check_list_name
from semiseg_jax.errors import DataError, OptionError
from semiseg_jax.wording import counted


@dataclasses.dataclass(frozen=True)
class Choice:
  """Which pictures to choose.

  Attributes:
    of: a list of the dataset, or a file of ids, all of them with labels.
    rule: one of `split_options.RULES`.
    ratios, counts: sizes, of which one is given: 1/r of the pictures, rounded up (by 'first' down,
      as published), or so many.
    order: 'sorted', 'list' (that of `of`), a file of the same ids, or a pickle of their positions
      when sorted; the order that `every` and `first` go through and in which the chosen ids are
      listed.
    seed: of 'random' and 'stratified'.
    group: a regular expression, see `partition.group_names`; "" chooses single pictures.
  """

  of: str
  rule: str
  ratios: tuple[int, ...] = ()
  counts: tuple[int, ...] = ()
  order: str = "sorted"
  seed: int = 0
  group: str = ""

  @property
  def names(self) -> list[str]:
    """What the lists are called by default."""
    return [f"labeled_1_{r}" for r in self.ratios] + [f"labeled_{n}" for n in self.counts]


def choose(dataset: Dataset, choice: Choice, pixels: np.ndarray) -> list[tuple[str, ...]]:
  """The lists in the order of the sizes.

  Args:
    dataset: holds the pictures.
    choice: which.
    pixels: `class_pixels` of `ordered_ids`.

  Raises:
    DataError: sizes that cannot be.
  """
  ids = ordered_ids(dataset, choice)
  sizes = _sizes(choice, len(ids))
  if choice.rule == "every":
    chosen = [split_rules.every(len(ids), ratio) for ratio in choice.ratios]
  elif choice.rule == "first":
    chosen = [np.arange(size) for size in sizes]
  elif choice.rule == "stratified" or choice.group:
    chosen = _divided(ids, choice, pixels, sizes)
  else:
    if choice.rule == "random":
      order = split_rules.shuffled(len(ids), choice.seed)
    else:
      order = split_rules.balanced(pixels, max(sizes))
    chosen = [np.sort(order[:size]) for size in sizes]
  return [tuple(ids[i] for i in positions) for positions in chosen]


def _divided(
  ids: Sequence[str], choice: Choice, pixels: np.ndarray, sizes: Sequence[int]
) -> list[np.ndarray]:
  """Positions of nested lists of whole groups, each a part of the next larger one."""
  groups = np.array(partition.group_names(ids, choice.group) if choice.group else ids)
  shown = pixels[:, :-1] > 0
  shown = shown if choice.rule == "stratified" else shown[:, :0]
  left, chosen = np.arange(len(ids)), {}
  for size in sorted(sizes, reverse=True):
    if size < len(left):
      wanted = (size, len(left) - size)
      left = left[partition.divide(groups[left], shown[left], wanted, choice.seed) == 0]
    chosen[size] = left
  return [chosen[size] for size in sizes]


def ordered_ids(dataset: Dataset, choice: Choice) -> tuple[str, ...]:
  """The ids of `choice.of` in `choice.order`.

  Raises:
    DataError: no such list, pictures without a label, an order of other ids.
  """
  ids = splits.resolve(dataset, choice.of).ids
  info = dataset.info
  problems = [
    f"{id_!r} has no label; choose from a list of labeled pictures (--of labeled)"
    for id_ in ids
    if not info.labeled[dataset.index(id_)]
  ]
  ordered = ids
  if choice.order == "sorted":
    ordered = tuple(sorted(ids))
  elif choice.order.endswith(permutations.SUFFIXES):
    positions = permutations.read_permutation(choice.order, len(ids))
    ordered = tuple(sorted(ids)[i] for i in positions)
  elif choice.order != "list":
    ordered = splits.read_ids(choice.order, frozenset(info.ids))
    problems += [f"{id_!r} is not in {choice.order}" for id_ in sorted(set(ids) - set(ordered))]
    problems += [
      f"{id_!r} of {choice.order} is not in it" for id_ in sorted(set(ordered) - set(ids))
    ]
  if problems:
    raise DataError.of_all(f"list {choice.of!r} cannot be split:", problems)
  return ordered


def _sizes(choice: Choice, count: int) -> list[int]:
  if choice.rule == "every" and choice.counts:
    raise OptionError("--rule every takes every r-th picture: give --ratio instead of --count")
  down = choice.rule == "first"
  sizes = [count // r if down else -(-count // r) for r in choice.ratios] + list(choice.counts)
  wrong = [size for size in sizes if size > count]
  if wrong:
    raise OptionError(f"--count {wrong[0]}: list {choice.of!r} has {counted(count, 'picture')}")
  if 0 in sizes:
    raise OptionError(
      f"--ratio {max(choice.ratios)}: list {choice.of!r} has only {counted(count, 'picture')}"
    )
  return sizes


def report(
  name: str,
  ids: Sequence[str],
  dataset: Dataset,
  whole: Sequence[str],
  pixels: np.ndarray,
  group: str = "",
) -> str:
  """A table of what list `name` holds beside `whole`, whose `class_pixels` are `pixels`."""
  at = {id_: i for i, id_ in enumerate(whole)}
  part = pixels[[at[id_] for id_ in ids]]
  described = splits.recognize(name, ids, whole)
  classes = dataset.info.classes
  width = max(map(len, (*classes, "class")))
  lines = [
    f"{name}: {len(ids)} of {counted(len(whole), 'picture')}",
    f"  sha256    {described.sha256}",
    f"  known as  {described.known or 'no published list'}",
    *([f"  holds     {partition.describe(partition.group_names(ids, group))}"] if group else []),
    f"  {'class':{width}}  pictures  % of them   of all  % of pixels   of all",
  ]
  (here, shares), (there, all_shares) = (_shares(counts) for counts in (part, pixels))
  for c, label in enumerate(classes):
    lines.append(
      f"  {label:{width}}  {here[c]:8d}  {100 * here[c] / len(ids):9.2f} "
      f"{100 * there[c] / len(whole):8.2f}  {shares[c]:11.3f} {all_shares[c]:8.3f}"
    )
  missing = [label for c, label in enumerate(classes) if there[c] and not here[c]]
  if missing:
    lines.append(f"  MISSING   no picture of {name} shows: {', '.join(missing)}. Nothing teaches")
    lines.append("            these classes; take more pictures, or --rule class_balanced")
  absent = [label for c, label in enumerate(classes) if not there[c]]
  if absent:
    lines.append(f"  NOTE      no label at all shows: {', '.join(absent)}")
  return "\n".join(lines)


def _shares(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Per class the pictures that show it, and its percentage of the labeled pixels."""
  counts = pixels[:, :-1]
  return (counts > 0).sum(0), 100 * counts.sum(0) / max(counts.sum(), 1)


def make(
  root: str,
  choice: Choice,
  *,
  names: Sequence[str],
  paths: Sequence[str],
  overwrite: bool,
  say: Callable[[str], None] = print,
) -> list[tuple[str, ...]]:
  """Chooses, shows, and stores the lists under `names` in the dataset and in files at `paths`.

  Raises:
    DataError: naming what is wrong; then nothing is stored.
  """
  dataset = Dataset.open(root)
  _check_places(dataset, names, paths, overwrite)
  whole = ordered_ids(dataset, choice)
  pixels = class_pixels(dataset, whole)
  lists = choose(dataset, choice, pixels)
  for name, ids in zip(names or choice.names, lists):
    say(report(name, ids, dataset, whole, pixels, choice.group))
  if len(lists) > 1:
    say(_nesting(names or choice.names, lists))
  if names:
    add_lists(root, dict(zip(names, lists)), overwrite=overwrite)
    say(f"added to {root}: use one with --config.data.labeled={names[0]}")
  for path, ids in zip(paths, lists):
    _write(pathlib.Path(path), ids)
    say(f"written: {path}")
  if not names and not paths:
    say("nothing was stored: --add puts the lists into the dataset, --out into files")
  return lists


def make_folds(
  root: str,
  division: Division,
  *,
  prefixes: Sequence[str],
  folder: str,
  overwrite: bool,
  say: Callable[[str], None] = print,
) -> dict[str, tuple[str, ...]]:
  """Divides, shows, and stores the lists PREFIX_train, ... in the dataset and in `folder`.

  Args:
    root: of the dataset.
    division: how.
    prefixes: of the names of each fold's lists; none stores no list in the dataset.
    folder: for a file of each list; "" for none.
    overwrite: replace lists and files.
    say: told what is made.

  Raises:
    DataError: naming what is wrong; then nothing is stored.
  """
  dataset = Dataset.open(root)
  ids = splits.resolve(dataset, division.of).ids
  pixels = class_pixels(dataset, ids)
  lists = {}
  folds = fold_lists.lists_of(dataset, division, ids, pixels)
  for prefix, fold in zip(prefixes or division.prefixes, folds):
    say(fold_lists.report(fold, prefix, division, dataset.info.classes, ids, pixels))
    fold_lists.say_copies(dataset, fold, prefix, ids, pixels, say)
    lists |= {f"{prefix}_{name}": members for name, members in fold.items()}
  paths = {name: os.path.join(folder, f"{name}.txt") for name in lists} if folder else {}
  _check_places(dataset, list(lists) if prefixes else [], list(paths.values()), overwrite)
  first = prefixes[0] if prefixes else division.prefixes[0]
  trained = "labeled" if f"{first}_labeled" in lists else "train"
  if prefixes:
    add_lists(root, lists, overwrite=overwrite)
    say(
      f"added to {root}: --config.data.train={first}_train --config.data.labeled={first}_{trained} "
      f"--config.data.val={first}_val"
    )
  for name, path in paths.items():
    _write(pathlib.Path(path), lists[name])
    say(f"written: {path}")
  if not prefixes and not folder:
    say("nothing was stored: --add puts the lists into the dataset, --out into a folder")
  return lists


def make_matching(
  root: str,
  of: str,
  pattern: str,
  *,
  names: Sequence[str],
  paths: Sequence[str],
  overwrite: bool,
  say: Callable[[str], None] = print,
) -> dict[str, tuple[str, ...]]:
  """Divides by a pattern, shows, and stores two lists: the pictures that match, and the others.

  Args:
    root: of the dataset.
    of: a list of the dataset, or a file of ids.
    pattern: a regular expression, found in the ids of the first list.
    names: of the two lists in the dataset; none stores none.
    paths: of two files; none writes none.
    overwrite: replace lists and files.
    say: told what is made.

  Raises:
    DataError: naming what is wrong; then nothing is stored.
  """
  dataset = Dataset.open(root)
  _check_places(dataset, names, paths, overwrite)
  ids = splits.resolve(dataset, of).ids
  shown = tuple(names) or matching_names(of)
  lists = dict(zip(shown, matching.divide(ids, pattern)))
  pixels = class_pixels(dataset, ids)
  for name, members in lists.items():
    say(report(name, members, dataset, ids, pixels))
  if names:
    add_lists(root, lists, overwrite=overwrite)
    say(f"added to {root}: --config.data.train={shown[1]}, evaluate --split={shown[0]}")
  for path, members in zip(paths, lists.values()):
    _write(pathlib.Path(path), members)
    say(f"written: {path}")
  if not names and not paths:
    say("nothing was stored: --add puts the lists into the dataset, --out into files")
  return lists


def matching_names(of: str) -> tuple[str, str]:
  """What the lists of `make_matching` are called by default."""
  return "held_out", f"{pathlib.Path(of).stem}_rest"


def _prefixes(division: Division, given: Sequence[str]) -> list[str]:
  """With a name of one's own before the number of the fold."""
  if not given:
    return division.prefixes
  return [f"{given[0]}_{i}" for i in range(division.folds)] if division.folds else [given[0]]


def _nesting(names: Sequence[str], lists: Sequence[Sequence[str]]) -> str:
  pairs = sorted(zip(names, map(set, lists)), key=lambda pair: len(pair[1]))
  for (small, inner), (large, outer) in zip(pairs, pairs[1:]):
    if not inner <= outer:
      return f"NOTE: not nested, {small} is not within {large}"
  return f"nested: {' in '.join(name for name, _ in pairs)}"


def _check_places(
  dataset: Dataset, names: Sequence[str], paths: Sequence[str], overwrite: bool
) -> None:
  for name in names:
    check_list_name(name)
  taken = [f"list {name!r}" for name in names if name in dataset.info.lists]
  taken += [path for path in paths if os.path.exists(path)]
  if taken and not overwrite:
    raise DataError(f"{', '.join(taken)} exists; choose another name, or give --overwrite")


def _write(path: pathlib.Path, ids: Sequence[str]) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_text(path, "".join(f"{id_}\n" for id_ in ids))


def main(argv: list[str]) -> None:
  """The command; ends with status 1 and the message when something is wrong with the data."""
  options = split_options.parse(argv, __doc__)
  if options.matching is not None:
    names = matching_names(options.of) if options.add == [] else options.add or ()
    with command.ending():
      make_matching(
        options.dataset,
        options.of,
        options.matching,
        names=names,
        paths=options.out,
        overwrite=options.overwrite,
      )
    return
  if options.folds is not None or options.holdout is not None:
    division = Division(
      options.of,
      options.folds or 0,
      options.holdout or 0.0,
      options.group,
      options.rule != "random",
      options.seed or 0,
    )
    with command.ending():
      make_folds(
        options.dataset,
        division,
        prefixes=[] if options.add is None else _prefixes(division, options.add),
        folder=options.out[0] if options.out else "",
        overwrite=options.overwrite,
      )
    return
  choice = Choice(
    options.of,
    options.rule,
    tuple(options.ratio),
    tuple(options.count),
    options.order,
    options.seed or 0,
    options.group,
  )
  names = choice.names if options.add == [] else options.add or []
  with command.ending():
    make(options.dataset, choice, names=names, paths=options.out, overwrite=options.overwrite)


if __name__ == "__main__":
  main(sys.argv[1:])
