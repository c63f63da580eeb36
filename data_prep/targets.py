"""Masks that somebody else's network made -> stored targets of unlabeled pictures, to train on.

  python -m data_prep.targets --dataset data/mine --masks sam/masks --confidence sam/scores \\
      --out data/mine_sam
  python -m semiseg_jax.main --config=configs/cps_toy.py:method=self_training \\
      --config.data.targets=data/mine_sam ...

A mask is a picture of class ids (PNG, or .npy) with the name and the size of its picture; without
--classes the ids are those of the dataset, 0 to K - 1, and 255 is no class. With --classes, a file
as for data_prep.folder, they are its ids, and its names are classes of the dataset; --label_values
0 255 says what black and white mean. A confidence is an 8-bit gray picture, 0 to 255, or .npy of
floats from 0 to 1, under the same name; without any, all labeled pixels are certain. Pixels of no
class have none. --labeled, --unlabeled and --train say which pictures, as the keys of a config do;
each must have a mask.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from data_prep import command
from data_prep.shards.convert import source_error
from data_prep.shards.workers import counter
from data_prep.sources import label_survey
from data_prep.sources.folder_files import find_files
from semiseg_jax import arguments
from semiseg_jax.data import options, picture_bytes, pictures, splits
from semiseg_jax.data.class_table import ClassTable, read_classes
from semiseg_jax.data.dataset import Dataset, DatasetInfo
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.list_files import Names
from semiseg_jax.data.targets import Targets, TargetsInfo
from semiseg_jax.data.writing.targets_writer import TargetsWriter
from semiseg_jax.errors import DataError, OptionError
from semiseg_jax.evaluation.run import read_ahead
from semiseg_jax.labels import IGNORE
from semiseg_jax.options import defaults
from semiseg_jax.wording import counted

Pool = Dataset | JoinedDataset
# Options of data_prep.folder, which has messages on files in common -> what mends a mask here.
_LISTS = defaults(options.Options)  # of the block `data`: which lists there are
_MENDS = {
  "data_prep.folder --label_colors": "save the ids of classes, or a palette picture",
  "data_prep.folder --value_range": "convert to 8 bits, or save .npy of floats from 0 to 1",
  "prepare the data with another --channels": "save it in gray",
}


@dataclasses.dataclass(frozen=True)
class Source:
  """What to store; the fields are the options of the command.

  Attributes:
    dataset: the folder of a prepared dataset.
    masks, confidence: folders, searched with their subfolders; confidence None when there is none.
    labeled, unlabeled, train: as in the block `data` of a config.
    unlabeled_root: a second dataset, as there.
    classes: the classes file of the masks, see `class_table.read_classes`; None: the ids of the
      dataset.
    ignore_id: of pixels without a class, by default the classes file's, or 255.
    label_values: the value in masks of each class of the file, or of the dataset, in its order.
    first_id: where a text file of classes begins to count; None: at 0, if masks do not object.
    mask_suffix, confidence_suffix: what file names have after the id.
    name: who made the masks, for results; by default the name of their folder.
  """

  dataset: str
  masks: str
  confidence: str | None = None
  labeled: str = "labeled"
  unlabeled: str = _LISTS["unlabeled"]
  train: str = _LISTS["train"]
  unlabeled_root: str | None = None
  classes: str | None = None
  ignore_id: int | None = None
  label_values: tuple[int, ...] | None = None
  first_id: int | None = None
  mask_suffix: str = ""
  confidence_suffix: str = ""
  name: str | None = None


@dataclasses.dataclass(frozen=True)
class Files:
  """Mask and confidence of a picture of `size` (H, W)."""

  id: str
  size: tuple[int, int]
  mask: pathlib.Path
  confidence: pathlib.Path | None


def prepare(
  source: Source,
  out: str | os.PathLike,
  *,
  overwrite: bool = False,
  say: Callable[[str], None] = print,
) -> TargetsInfo:
  """Writes the stored targets `out`, whole or not at all, and says what is in them.

  Raises:
    DataError: options that cannot be, or all that is wrong with the files in one message.
  """
  pool = Dataset.open(source.dataset)
  if source.unlabeled_root:
    pool = JoinedDataset(pool, Dataset.open(source.unlabeled_root))
  table = _table(source, pool.info)
  for note in table.notes:
    say(f"NOTE: {note}")
  split = splits.make_split(pool, source.labeled, source.unlabeled, source.train)
  wrong: list[str] = []
  items = _pair(source, pool, split.unlabeled.ids, wrong, say)
  stated = source.ignore_id is not None or table.ignored_name is not None
  wrong += label_survey.survey(
    [item.mask for item in items],
    table,
    palettes=False,
    say=say,
    ignored_is_stated=stated,
    values_are_stated=source.label_values is not None,
  )
  about = {"masks": source.name or pathlib.Path(os.path.realpath(source.masks)).name}
  about["confidence"] = source.confidence is not None
  with (
    TargetsWriter(out, dataset=pool, about=about, overwrite=overwrite, say=say) as writer,
    counter(len(items), f"storing {pathlib.Path(out).name}") as bar,
  ):
    highest = 0
    for item, (label, confidence, problem) in _loaded(items, table, pool.info.classes):
      wrong += problem
      highest = max(highest, 0 if confidence is None else int(confidence.max(initial=0)))
      if not wrong:
        writer.add(item.id, label=label, confidence=confidence)
      bar.advance()
    if wrong:
      raise source_error(wrong)
  info = Targets.open(out).info
  _report(info, out, say)
  if source.confidence is not None and highest <= 100:
    say(
      f"NOTE: the highest confidence is {highest} of 255; if the files hold percent, save .npy of "
      "floats from 0 to 1"
    )
  return info


def _table(source: Source, info: DatasetInfo) -> ClassTable:
  """How ids of masks become ids of the dataset."""
  names, ignored = info.classes, IGNORE if source.ignore_id is None else source.ignore_id
  if source.classes is None and source.label_values is not None:
    return _table_of_values(source, info)
  if source.classes is None:
    if source.first_id is not None:
      raise OptionError(
        "--first_id is for a text file of classes (--classes); leave it out, or give --label_values"
      )
    if 0 <= ignored < len(names):
      raise OptionError(
        f"--ignore_id {ignored} is the class {names[ignored]!r} of {source.dataset}; give a file "
        "of the ids that the masks have (--classes)"
      )
    return ClassTable(names, info.colors, tuple(range(len(names))), ignored, {})
  table = read_classes(
    source.classes, source.ignore_id, first_id=source.first_id, values=source.label_values
  )
  foreign = [name for name in table.names if name not in names]
  if foreign:
    raise DataError(
      f"classes file {source.classes}: {', '.join(map(repr, foreign))} is no class of "
      f"{source.dataset} (which has {', '.join(names)}); rename the class, or leave it out of the "
      "file and give its pixels the ignored id"
    )
  return table


def _table_of_values(source: Source, info: DatasetInfo) -> ClassTable:
  """The classes of the dataset, in its order, by their values in masks."""
  values, names = source.label_values, info.classes
  given = " ".join(map(str, values))
  if len(values) != len(names) or len(set(values)) < len(values):
    raise OptionError(
      f"--label_values {given}: give one value, not used twice, for each class of "
      f"{source.dataset}, in their order: {', '.join(names)}; if the masks show only some of them, "
      "give --classes FILE, too, which names these"
    )
  if source.ignore_id in values or not all(0 <= value <= 65535 for value in values):
    raise OptionError(f"--label_values {given}: give 0 to 65535, and none that is the --ignore_id")
  ignored = source.ignore_id
  if ignored is None and IGNORE not in values:
    ignored = IGNORE
  return ClassTable(names, info.colors, tuple(values), ignored, {})


def _pair(
  source: Source,
  pool: Pool,
  ids: Sequence[str],
  wrong: list[str],
  say: Callable[[str], None],
) -> list[Files]:
  """The files of each picture; appends to `wrong` what is absent or belongs to no picture."""
  masks = _by_id(source.masks, source.mask_suffix, "masks", pool, wrong, say)
  scores = None
  if source.confidence is not None:
    scores = _by_id(source.confidence, source.confidence_suffix, "confidences", pool, wrong, say)
  items, sizes = [], pool.info.sizes
  for id_ in ids:
    if id_ not in masks:
      wrong.append(
        f"picture {id_!r} has no mask in {source.masks}; add it, or take it off the list"
      )
    elif scores is not None and id_ not in scores:
      wrong.append(f"mask {masks[id_]} has no confidence in {source.confidence}; add it")
    else:
      items.append(Files(id_, tuple(sizes[pool.index(id_)]), masks[id_], scores and scores[id_]))
  others = len(masks.keys() - set(ids))
  if others:
    say(
      f"NOTE: {counted(others, 'mask is', 'masks are')} left out: no picture on the unlabeled list "
      f"({source.unlabeled})"
    )
  return items


def _by_id(
  folder: str,
  suffix: str,
  what: str,
  pool: Pool,
  wrong: list[str],
  say: Callable[[str], None],
) -> dict[str, pathlib.Path]:
  names, found = Names(frozenset(pool.info.ids)), {}
  for name, path in find_files(folder, pictures.LABEL_SUFFIXES, suffix, what, wrong, say).items():
    # A Mac may take the letters of a name apart.
    forms = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
    id_ = next((id_ for form in forms if (id_ := names.find(form)) is not None), None)
    if id_ is None:
      near = names.near(name)
      hint = f" (near: {near!r})" if near else ""
      wrong.append(
        f"{path} names no picture of {pool.root}{hint}; correct its name (set --mask_suffix or "
        "--confidence_suffix if names differ by it), or remove it"
      )
    elif id_ in found:
      wrong.append(f"{found[id_]} and {path} are of one picture, {id_!r}; remove one")
    else:
      found[id_] = path
  return found


def _loaded(items: list[Files], table: ClassTable, classes: tuple[str, ...]) -> Iterable:
  """(item, (label, confidence, what is wrong)) of each, in order; the next ones are read ahead."""
  ids = np.full(256, IGNORE, np.uint8)
  ids[: len(table.names)] = [classes.index(name) for name in table.names]
  return zip(items, read_ahead(functools.partial(_load, table=table, ids=ids), items))


def _load(
  item: Files, *, table: ClassTable, ids: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None, list[str]]:
  """Label and confidence uint8 [H,W], and a line on all that is wrong with them."""
  label = confidence = None
  wrong = []
  try:
    label = ids[table.convert(_sized(pictures.read_label(item.mask), item, item.mask), item.mask)]
  except DataError as error:
    wrong.append(_reworded(error))
  try:
    if item.confidence is not None:
      confidence = _sized(_read_confidence(item.confidence), item, item.confidence)
    elif label is not None:
      confidence = np.full(label.shape, 255, np.uint8)
  except DataError as error:
    wrong.append(_reworded(error))
  if label is not None and confidence is not None:
    confidence = np.where(label == IGNORE, 0, confidence)
  return label, confidence, wrong


def _reworded(error: DataError) -> str:
  """The message, with a mend of this command in place of one by options of another."""
  text = str(error)
  mend = next((mend for option, mend in _MENDS.items() if option in text), None)
  return text if mend is None else f"{text.rpartition('; ')[0]}; {mend}"


def _sized(values: np.ndarray, item: Files, path: pathlib.Path) -> np.ndarray:
  if values.shape != item.size:
    (height, width), found = item.size, "x".join(map(str, values.shape[::-1]))
    raise DataError(
      f"{path}: {found} pixels, its picture {item.id!r} {width}x{height}; make them one size"
    )
  return values


def _read_confidence(path: pathlib.Path) -> np.ndarray:
  """Confidence uint8 [H,W]: the rounded 255-fold of floats, or 8 bits as they are."""
  if path.suffix.lower() != ".npy":
    return _scaled(pictures.read_picture(path, channels=1).pixels[..., 0], path)
  values = picture_bytes.load_npy(picture_bytes.read_bytes(path), str(path))
  if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):  # [1,H,W], [H,W,1]
    values = values.squeeze(0 if values.shape[0] == 1 else 2)
  if values.dtype == np.uint8:
    return _scaled(values, path)
  if not np.issubdtype(values.dtype, np.floating):
    raise DataError(f"{path}: {values.dtype} values; save floats from 0 to 1, or uint8")
  if not ((values >= 0) & (values <= 1)).all():  # nor NaN
    raise DataError(f"{path}: values outside of 0 to 1; save probabilities")
  return np.rint(values.astype(np.float64) * 255).astype(np.uint8)


def _scaled(values: np.ndarray, path: pathlib.Path) -> np.ndarray:
  """The values, which go to 255; DataError where they are 0 and 1, as a mask has them."""
  if values.max(initial=0) == 1:
    raise DataError(
      f"{path}: holds {'0 and 1' if (values == 0).any() else '1'} only, where 255 is certain: "
      "hardly anything would count; save 255 in place of 1, or .npy of floats from 0 to 1"
    )
  return values


def _report(info: TargetsInfo, out: str | os.PathLike, say: Callable[[str], None]) -> None:
  *counts, ignored = info.class_pixels
  share = ignored / max(sum(info.class_pixels), 1)
  say(
    f"{out}: targets of {counted(len(info.ids), 'picture')} of {info.dataset_name!r}, {share:.1%} "
    "of the "
    f"pixels without a class; train on them with --config.data.targets={out}"
  )
  absent = [name for name, count in zip(info.classes, counts) if not count]
  if absent:
    say(f"NOTE: no mask shows: {', '.join(absent)}")


def _parse(argv: list[str]) -> argparse.Namespace:
  parser = arguments.Parser(
    "data_prep.targets",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--dataset", required=True, help="the folder of a prepared dataset")
  parser.add_argument("--masks", required=True, help="folder of masks")
  parser.add_argument("--confidence", help="folder of their confidences")
  parser.add_argument("--out", required=True, help="the targets' folder, which must not exist")
  parser.add_argument("--labeled", default="labeled", help="a list or a file (%(default)s)")
  parser.add_argument(
    "--unlabeled", default=_LISTS["unlabeled"], help="'rest', 'all', a list or a file (%(default)s)"
  )
  parser.add_argument("--train", default=_LISTS["train"], help="a list or a file (%(default)s)")
  parser.add_argument("--unlabeled_root", help="a second dataset of unlabeled pictures")
  parser.add_argument("--classes", help="classes file of the masks, as for data_prep.folder")
  parser.add_argument("--ignore_id", type=int, help="id of pixels without a class")
  parser.add_argument(
    "--label_values",
    type=int,
    nargs="+",
    metavar="VALUE",
    help="the values of the classes in masks, in their order: 0 255 for black and white",
  )
  parser.add_argument(
    "--first_id", type=int, choices=(0, 1), help="the id of the first line of a text of classes (0)"
  )
  parser.add_argument("--mask_suffix", default="", help="end of mask names after the id")
  parser.add_argument("--confidence_suffix", default="", help="end of their names after the id")
  parser.add_argument("--name", help="who made the masks; by default the name of their folder")
  parser.add_argument("--overwrite", action="store_true", help="replace the targets at --out")
  found = parser.parse_args(argv)
  found.label_values = found.label_values and tuple(found.label_values)
  return found


def main(argv: list[str]) -> None:
  """The command; ends with status 1 and the message when something is wrong with the data."""
  options = vars(_parse(argv))
  out, overwrite = options.pop("out"), options.pop("overwrite")
  with command.ending():
    prepare(Source(**options), out, overwrite=overwrite)


if __name__ == "__main__":
  main(sys.argv[1:])
