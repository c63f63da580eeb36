"""The named lists of a data set of own pictures: given, by folders, held out, or by default."""

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType

from data_prep.sources.folder_files import Naming
from data_prep.sources.folder_holdout import ClassPixels, HoldOut, Lists, divided_groups
from data_prep.sources.folder_leaks import shared_ids
from semiseg_jax.data import splits
from semiseg_jax.errors import DataError


def make_lists(
  files: dict[str, str],
  hold_out: HoldOut,
  naming: Naming,
  ids: Sequence[str],
  labels: Container[str],
  wrong: list[str],
  folders: Mapping[str, Sequence[str]] = MappingProxyType({}),
  class_pixels: ClassPixels | None = None,
) -> Lists:
  """The lists of a data set, none of them empty.

  Args:
    files: list name -> file of ids; 'train' (without a file all ids on neither 'val' nor 'test')
      and 'labeled' (without a file those of 'train' with a label) are always made.
    hold_out: which of the labeled training pictures become 'val'.
    naming: of the names in the files.
    ids: of all pictures.
    labels: the ids that have a label.
    wrong: gets a line on each problem in the files; then nothing is held out.
    folders: list name -> ids in the folder of this name, used unless 'train', 'val' or 'test' is
      given; a folder 'val' is the list of its labeled pictures, and trains with none.
    class_pixels: as `HoldOut.apply` takes them; None while they are not counted.

  Raises:
    DataError: a hold-out that cannot be made.
  """
  lists = _read(files, naming, ids, labels, wrong)
  wrong += shared_ids(lists)
  if folders.keys() & {"val", "test"} and not lists.keys() & {"train", "val", "test"}:
    apart = {id_ for name in ("val", "test") for id_ in folders.get(name, ())}
    lists["train"] = tuple(id_ for id_ in ids if id_ not in apart)
    lists["test"] = tuple(folders.get("test", ()))
    val = tuple(id_ for id_ in folders.get("val", ()) if id_ in labels)
    if val and hold_out.share:
      raise DataError(
        "the folder of validation pictures makes a list 'val', and --holdout asks for another; "
        "leave --holdout out, or give --list train=FILE"
      )
    lists |= {"val": val} if val else {}
  if "train" not in lists:
    apart = {id_ for name in ("val", "test") if name in lists for id_ in lists[name]}
    lists["train"] = tuple(id_ for id_ in ids if id_ not in apart)
  if hold_out.share and not wrong:
    lists |= hold_out.apply(lists, labels, class_pixels)
  if hold_out.group and not wrong:
    wrong += divided_groups(lists, hold_out.group)
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
