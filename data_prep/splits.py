"""Chooses the labeled pictures of a dataset by a rule, and shows what is in them.

    python -m data_prep.splits --dataset data/voc --of train_aug --rule every --ratio 16 8 4 2 --add
    python -m data_prep.splits --dataset data/city --order train.txt --rule every --ratio 8 --add
    python -m data_prep.splits --dataset data/mine --rule class_balanced --count 92 \\
        --out lists/labeled_92.txt
    python -m data_prep.splits --dataset data/voc --of train_aug --rule first \\
        --order split_0.pkl --ratio 8 --add labeled_s4gan_1_8

Rules: `every` r-th id (the published lists of CPS: of VOC over the sorted ids, of Cityscapes over
the order of its train.txt), the `first` ids of an order (s4GAN's and AdvSemiSeg's, which they keep
as pickles of positions among the sorted ids), `random` with a seed, `class_balanced`. Lists of
several sizes made by one command are nested, with `every` where each ratio divides the next one.
The pictures left over are the unlabeled ones: --config.data.unlabeled=rest.
"""

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

import numpy as np

from data_prep import command, split_rules
from data_prep.sources import permutations
from semiseg_jax import files
from semiseg_jax.data import splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.writing.dataset_lists import add_lists, class_pixels
from semiseg_jax.data.writing.dataset_writer import check_list_name
from semiseg_jax.errors import DataError

RULES = ("every", "first", "random", "class_balanced")


@dataclasses.dataclass(frozen=True)
class Choice:
  """Which pictures to choose.

  Attributes:
    of: a list of the dataset, or a file of ids, all of them with labels.
    rule: one of RULES.
    ratios, counts: sizes, of which one is given: 1/r of the pictures, rounded up (by 'first' down,
      as published), or so many.
    order: 'sorted', 'list' (that of `of`), a file of the same ids, or a pickle of their positions
      when sorted; the order that `every` and `first` go through and in which the chosen ids are
      listed.
    seed: of 'random'.
  """

  of: str
  rule: str
  ratios: tuple[int, ...] = ()
  counts: tuple[int, ...] = ()
  order: str = "sorted"
  seed: int = 0

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
  else:
    if choice.rule == "random":
      order = split_rules.shuffled(len(ids), choice.seed)
    else:
      order = split_rules.balanced(pixels, max(sizes))
    chosen = [np.sort(order[:size]) for size in sizes]
  return [tuple(ids[i] for i in positions) for positions in chosen]


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
    raise DataError("--rule every takes every r-th picture: give --ratio instead of --count")
  down = choice.rule == "first"
  sizes = [count // r if down else -(-count // r) for r in choice.ratios] + list(choice.counts)
  wrong = [size for size in sizes if size > count]
  if wrong:
    raise DataError(f"--count {wrong[0]}: list {choice.of!r} has {count} pictures")
  if 0 in sizes:
    raise DataError(f"--ratio {max(choice.ratios)}: list {choice.of!r} has only {count} pictures")
  return sizes


def report(
  name: str, ids: Sequence[str], dataset: Dataset, whole: Sequence[str], pixels: np.ndarray
) -> str:
  """A table of what list `name` holds beside `whole`, whose `class_pixels` are `pixels`."""
  at = {id_: i for i, id_ in enumerate(whole)}
  part = pixels[[at[id_] for id_ in ids]]
  described = splits.recognize(name, ids, whole)
  classes = dataset.info.classes
  width = max(map(len, (*classes, "class")))
  lines = [
    f"{name}: {len(ids)} of {len(whole)} pictures",
    f"  sha256    {described.sha256}",
    f"  known as  {described.known or 'no published list'}",
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
    say(report(name, ids, dataset, whole, pixels))
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


def _parse(argv: list[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m data_prep.splits",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--dataset", required=True, help="the folder of a prepared dataset")
  parser.add_argument("--of", default="train", help="a list of the dataset, or a file of ids")
  parser.add_argument("--rule", required=True, choices=RULES)
  size = parser.add_mutually_exclusive_group(required=True)
  size.add_argument("--ratio", type=int, nargs="+", default=[], help="8 for 1/8; several: nested")
  size.add_argument("--count", type=int, nargs="+", default=[], help="numbers of pictures")
  parser.add_argument(
    "--order",
    default="sorted",
    help="'sorted', 'list' (as --of stands), a file of the ids, or a .pkl of their positions",
  )
  parser.add_argument("--seed", type=int, help="of --rule random, 0 when not given")
  parser.add_argument(
    "--add",
    nargs="*",
    metavar="NAME",
    help="add the lists to the dataset, as labeled_1_8 or labeled_92 without names",
  )
  parser.add_argument("--out", nargs="+", default=[], metavar="FILE", help="write the lists")
  parser.add_argument("--overwrite", action="store_true", help="replace lists and files")
  options = parser.parse_args(argv)
  count = len(options.ratio) + len(options.count)
  if min(options.ratio + options.count) < 1:
    parser.error("--ratio and --count: give numbers from 1 on")
  if len(set(options.ratio + options.count)) < count:
    parser.error("--ratio and --count: a number is given twice")
  for flag in ("add", "out"):
    if getattr(options, flag) and len(getattr(options, flag)) != count:
      parser.error(f"--{flag}: give {count} names, one for each size")
  if options.seed is not None and options.rule != "random":
    parser.error(f"--seed: rule {options.rule} draws nothing")
  if options.seed is not None and options.seed < 0:
    parser.error("--seed: give a number from 0 on")
  return options


def main(argv: list[str]) -> None:
  """The command; ends with status 1 and the message when something is wrong with the data."""
  options = _parse(argv)
  choice = Choice(
    options.of,
    options.rule,
    tuple(options.ratio),
    tuple(options.count),
    options.order,
    options.seed or 0,
  )
  names = choice.names if options.add == [] else options.add or []
  with command.ending():
    make(options.dataset, choice, names=names, paths=options.out, overwrite=options.overwrite)


if __name__ == "__main__":
  main(sys.argv[1:])
