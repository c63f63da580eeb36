"""The named lists of a data set of own pictures: given, by folders, held out, or by default."""

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from data_prep.sources.folder_files import Naming
from semiseg_jax.data import splits
from semiseg_jax.errors import DataError

Lists = dict[str, tuple[str, ...]]


def make_lists(
  files: dict[str, str],
  holdout: float,
  naming: Naming,
  ids: Sequence[str],
  labels: Container[str],
  wrong: list[str],
  folders: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Lists:
  """The lists of a data set, none of them empty.

  Args:
    files: list name -> file of ids; 'train' (without a file all ids on neither 'val' nor 'test')
      and 'labeled' (without a file those of 'train' with a label) are always made.
    holdout: share of the labeled training pictures that becomes 'val'; 0 for none.
    naming: of the names in the files.
    ids: of all pictures.
    labels: the ids that have a label.
    wrong: gets a line on each problem in the files; then nothing is held out.
    folders: list name -> ids in the folder of this name, used unless 'train', 'val' or 'test' is
      given; a folder 'val' is the list of its labeled pictures, and trains with none.

  Raises:
    DataError: a hold-out that cannot be made.
  """
  lists = _read(files, naming, ids, labels, wrong)
  if folders.keys() & {"val", "test"} and not lists.keys() & {"train", "val", "test"}:
    apart = {id_ for name in ("val", "test") for id_ in folders.get(name, ())}
    lists["train"] = tuple(id_ for id_ in ids if id_ not in apart)
    lists["test"] = tuple(folders.get("test", ()))
    val = tuple(id_ for id_ in folders.get("val", ()) if id_ in labels)
    if val and holdout:
      raise DataError(
        "the folder of validation pictures makes a list 'val', and --holdout asks for another; "
        "leave --holdout out, or give --list train=FILE"
      )
    lists |= {"val": val} if val else {}
  if "train" not in lists:
    apart = {id_ for name in ("val", "test") if name in lists for id_ in lists[name]}
    lists["train"] = tuple(id_ for id_ in ids if id_ not in apart)
  if holdout and not wrong:
    lists |= _hold_out(holdout, lists, labels)
  labeled = tuple(id_ for id_ in lists["train"] if id_ in labels)
  if labeled and "labeled" not in lists:
    lists["labeled"] = labeled
  return {name: members for name, members in lists.items() if members}


def _read(
  files: dict[str, str],
  naming: Naming,
  ids: Sequence[str],
  labels: Container[str],
  wrong: list[str],
) -> Lists:
  lists, known = {}, frozenset(ids)
  for name, file in files.items():
    lists[name], problems, _ = splits.parse_ids(file, known, naming.inner_suffix, naming.prefix)
    wrong += problems
    if name == "val" or name.startswith("labeled"):
      wrong += [
        f"list {name!r} ({file}) names {id_!r}, which has no label; add its label or take it off "
        "the list"
        for id_ in lists[name]
        if id_ not in labels
      ]
  return lists


def _hold_out(share: float, lists: Lists, labels: Container[str]) -> Lists:
  if "val" in lists:
    raise DataError("a list 'val' and --holdout are both given; choose one")
  if not 0 < share < 1:
    raise DataError(f"--holdout {share}: give a share between 0 and 1")
  labeled = [id_ for id_ in lists["train"] if id_ in labels]
  taken = {id_ for name, ids in lists.items() if name != "train" for id_ in ids}
  free = [id_ for id_ in labeled if id_ not in taken]
  count = max(round(share * len(labeled)), 1)
  if count > len(free):
    raise DataError(
      f"--holdout {share} asks for {count} labeled pictures, but only {len(free)} "
      "are on no other list; lower it, or give a list 'val'"
    )
  if count == len(labeled):
    raise DataError(
      f"--holdout {share} takes all {count} labeled pictures and leaves none to train with; label "
      "more, or give the lists 'val' and 'train'"
    )
  order = np.random.default_rng(0).permutation(len(free))[:count]
  held = tuple(free[index] for index in sorted(order))
  return {"val": held, "train": tuple(id_ for id_ in lists["train"] if id_ not in set(held))}
