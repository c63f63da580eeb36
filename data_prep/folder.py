"""Own pictures -> shards: a folder of pictures, optionally labels, a classes file, lists of ids.

  python -m data_prep.folder --images DIR --labels DIR --classes FILE --out data/mine \\
      --list labeled_1_8=FILE --holdout 0.1

A picture's id is its file name without folder and suffix, or with its folders where names repeat;
its label has the same id. Pictures without a label are unlabeled. Labels may lie beside the
pictures or below them: --label_suffix _mask or --label_prefix mask_ tells them apart, and so do a
folder of masks, or JPEG beside PNG. Folders train/, val/ and test/ become lists.
"""

import argparse
import dataclasses
import functools
import math
import os
import pathlib
import sys
from collections.abc import Callable

import numpy as np

from data_prep import command
from data_prep.shards.convert import Loaded, add_flags, convert, report, source_error
from data_prep.sources import label_merging, label_survey
from data_prep.sources.folder_files import Naming
from data_prep.sources.folder_lists import make_lists
from data_prep.sources.folder_pairs import Folders, Mask, Pairs, find_pairs
from semiseg_jax.data import pictures, splits
from semiseg_jax.data.class_table import ClassTable, read_classes
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.data.writing.dataset_writer import check_list_name
from semiseg_jax.errors import SHOWN, DataError
from semiseg_jax.labels import IGNORE


@dataclasses.dataclass(frozen=True)
class Source:
  """What to prepare; the fields are the options of the command.

  Attributes:
    images, labels: folders, searched with their subfolders, may be one; labels None when there are
      none.
    classes: the classes file, see `class_table.read_classes`.
    lists: list name -> file of ids.
    holdout: share of the labeled pictures that becomes 'val' when no such list is given.
    channels: C, None for that of the first picture that can be read.
    value_range: (low, high) -> 0..255 for pictures that are not 8 bits a channel.
    ignore_id: overrides the classes file's.
    first_id: where a text file of classes begins to count; None: at 0, if labels do not object.
    label_values: the value in labels of each class of the file, in its order.
    label_colors: labels are pictures in exactly the colors of the classes file.
    image_suffix, label_suffix: what file names have after the id, such as '_mask' or '_mask.png';
      other files are left out.
    image_prefix, label_prefix: what they have before it.
    merge_masks: a picture may have several masks, whose values are classes.
    class_masks: a picture may have several masks, each of the class that its name or folder says.
    all_pictures: files with names of masks are pictures.
  """

  images: str
  classes: str
  labels: str | None = None
  lists: dict[str, str] = dataclasses.field(default_factory=dict)
  holdout: float = 0.0
  channels: int | None = None
  value_range: tuple[float, float] | None = None
  ignore_id: int | None = None
  first_id: int | None = None
  label_values: tuple[int, ...] | None = None
  label_colors: bool = False
  image_suffix: str = ""
  label_suffix: str = ""
  image_prefix: str = ""
  label_prefix: str = ""
  merge_masks: bool = False
  class_masks: bool = False
  all_pictures: bool = False

  def folders(self) -> Folders:
    """Where the files are."""
    return Folders(
      self.images,
      self.labels,
      Naming(self.image_prefix, self.image_suffix),
      Naming(self.label_prefix, self.label_suffix),
      several=self.merge_masks or self.class_masks,
      all_pictures=self.all_pictures,
    )


@dataclasses.dataclass(frozen=True)
class Files:
  """A picture and its masks; `classes` of these if each is of one.  The rest is for convert."""

  id: str
  image: str
  labels: tuple[str, ...]
  classes: tuple[int, ...]
  bytes: int
  stamp: str


def prepare(
  source: Source,
  out: str | os.PathLike,
  *,
  name: str | None = None,
  workers: int = 0,
  codec: str = "keep",
  overwrite: bool = False,
  say: Callable[[str], None] = print,
) -> DatasetInfo:
  """Writes the dataset `out` and says what is in it; for the options see convert.

  Raises:
    DataError: options that cannot be, or all that is wrong with files and lists in one message.
  """
  table = read_classes(
    source.classes, source.ignore_id, first_id=source.first_id, values=source.label_values
  )
  _check_options(source, table)
  wrong: list[str] = []
  folders = source.folders()
  pairs = find_pairs(folders, wrong, say)
  ids = list(pairs.pictures)
  lists = make_lists(
    source.lists, source.holdout, folders.image, ids, pairs.labels, wrong, pairs.lists
  )
  _say_meaning(source, table, pairs, lists, say)
  items = _items(source, pairs, table, wrong)
  if not (source.label_colors or source.class_masks):
    paths = [mask.path for masks in pairs.labels.values() for mask in masks]
    wrong += label_survey.survey(paths, table, palettes=not table.palette, say=say)
  if wrong:
    say(f"{len(wrong)} files or lists are wrong; reading the others to name all in one message")
  channels = source.channels or _first_channels(source, list(pairs.pictures.values()), wrong)
  out = pathlib.Path(out)
  info = convert(
    out,
    items,
    functools.partial(
      _load,
      table=table,
      channels=channels,
      value_range=source.value_range,
      label_colors=source.label_colors,
      rest=_rest(items),
    ),
    name=name or out.name,
    classes=table.names,
    colors=table.colors,
    channels=channels,
    source_ignore_id=table.ignore_id,
    lists=lists,
    workers=workers,
    overwrite=overwrite,
    codec=codec,
    problems=wrong,
    say=say,
  )
  report(info, out, say)
  _say_absent(info, say)
  return info


def _check_options(source: Source, table: ClassTable) -> None:
  if source.label_colors and not table.palette:
    raise DataError(f"classes file {source.classes} gives no colors, which --label_colors needs")
  chosen = [
    f"--{name}" for name in ("label_colors", "label_values", "class_masks") if getattr(source, name)
  ]
  if len(chosen) > 1 or (source.merge_masks and source.class_masks):
    chosen += ["--merge_masks"] if source.merge_masks else []
    raise DataError(f"{' and '.join(chosen)} say different things of the labels; give one of them")
  if len(table.names) == 1:
    raise DataError(
      f"classes file {source.classes}: 1 class ({table.names[0]}), from which there is nothing to "
      "tell apart; name what is not of it, too, such as 'background' in a line before it, with "
      "--label_values 0 255 if masks are black and white"
    )
  if source.value_range is not None:
    low, high = source.value_range
    if not -math.inf < low < high < math.inf:
      raise DataError(f"--value_range {low:g} {high:g}: LOW must be below HIGH, both finite")
  if source.channels is not None and source.channels < 1:
    raise DataError(f"--channels {source.channels}: give at least 1")
  for name in source.lists:
    check_list_name(name)


def _first_channels(source: Source, images: list[pathlib.Path], wrong: list[str]) -> int:
  """C of the first picture that can be read, of which there should be one among the first."""
  unreadable = []
  for image in images[:SHOWN]:
    try:
      return pictures.read_picture(image, value_range=source.value_range).pixels.shape[2]
    except DataError as error:
      unreadable.append(str(error))
  raise source_error(wrong + unreadable)


def _say_meaning(
  source: Source,
  table: ClassTable,
  pairs: Pairs,
  lists: dict[str, tuple[str, ...]],
  say: Callable[[str], None],
) -> None:
  """Says what was not asked for in so many words."""
  if table.ignored_name is not None:
    say(
      f"NOTE: {table.ignored_name!r} of {source.classes} has the ignored id {table.ignore_id} and "
      "is no class"
    )
  if (
    table.counted and source.labels is not None and not (source.label_colors or source.class_masks)
  ):
    named = [f"{id_} = {name}" for id_, name in zip(table.source_ids, table.names)]
    more = ", ..." if len(named) > 4 else ""
    say(
      f"{source.classes} counts classes from 0: {', '.join(named[:4])}{more} (--first_id 1 counts "
      "from 1)"
    )
  if any("/" in id_ for id_ in pairs.pictures):
    say(f"names repeat in several folders, so ids have these, too: {next(iter(pairs.pictures))!r}")
  made = [name for name in pairs.lists if name not in source.lists and name in lists]
  if made and not source.lists.keys() & {"train", "val", "test"}:
    say(f"folders make the lists {', '.join(made)}")


def _items(source: Source, pairs: Pairs, table: ClassTable, wrong: list[str]) -> list[Files]:
  items = []
  for id_, image in pairs.pictures.items():
    masks, classes = pairs.labels.get(id_, ()), ()
    if source.class_masks:
      named = [label_merging.class_of(mask, table.names) for mask in masks]
      wrong += [
        f"{mask.path}: neither its name nor its folder says its class ({', '.join(table.names)}); "
        "rename it, or set --label_prefix or --label_suffix if names differ by it"
        for mask, class_ in zip(masks, named)
        if class_ is None
      ]
      classes = tuple(class_ or 0 for class_ in named)
    items.append(_item(id_, image, masks, classes))
  return items


def _rest(items: list[Files]) -> int:
  """The class of pixels in no mask of a class: the first one, unless it has masks of its own."""
  return IGNORE if any(0 in item.classes for item in items) else 0


def _item(
  id_: str, image: pathlib.Path, masks: tuple[Mask, ...], classes: tuple[int, ...]
) -> Files:
  stats = [_stat(path) for path in (image, *(mask.path for mask in masks))]
  return Files(
    id_,
    str(image),
    tuple(str(mask.path) for mask in masks),
    classes,
    sum(size for size, _ in stats),
    " ".join(f"{size}:{time_ns}" for size, time_ns in stats),
  )


def _stat(path: pathlib.Path) -> tuple[int, int]:
  """Size in bytes and time of change; zeros for what cannot be read, which loading will tell."""
  try:
    stat = os.stat(path)
  except OSError:
    return 0, 0
  return stat.st_size, stat.st_mtime_ns


def _load(
  item: Files,
  *,
  table: ClassTable,
  channels: int,
  value_range: tuple[float, float] | None,
  label_colors: bool,
  rest: int,
) -> Loaded:
  """A picture and its label; DataError of all that is wrong with the two."""
  picture = label = None
  wrong = []
  try:
    picture = pictures.read_picture(item.image, channels=channels, value_range=value_range)
  except DataError as error:
    wrong.append(str(error))
  try:
    if item.classes:
      masks = [pictures.read_label(path, grays=True) for path in item.labels]
      label = label_merging.merge_classes(masks, item.classes, item.labels, rest)
    elif item.labels:
      labels = [_read_label(path, table, label_colors) for path in item.labels]
      label = label_merging.merge_values(labels, item.labels)
  except DataError as error:
    wrong.append(str(error))
  if picture is not None and label is not None and label.shape != picture.pixels.shape[:2]:
    wrong.append(
      f"{item.labels[0]}: {label.shape[1]}x{label.shape[0]} pixels, its picture {item.image} "
      f"{picture.pixels.shape[1]}x{picture.pixels.shape[0]}; make them one size"
    )
  if wrong:
    raise DataError("\n".join(wrong))
  return Loaded(picture.pixels if picture.file is None else picture.file, label)


def _read_label(path: str, table: ClassTable, colors: bool) -> np.ndarray:
  """Classes uint8 [H, W]; DataError, too, for a palette that contradicts the classes' colors."""
  raw = pictures.read_label(path, colors=colors, grays=table.are_grays_ids)
  palette = None if colors or not table.palette else pictures.read_palette(path)
  if palette is not None:
    table.check_palette(raw, palette, path)
  return table.convert(raw, path)


def _say_absent(info: DatasetInfo, say: Callable[[str], None]) -> None:
  if "train" not in info.lists:
    say(
      "NOTE: there is no training list, as all pictures are on the lists 'val' or 'test'; this "
      "dataset is for evaluation only"
    )
  if "val" not in info.lists:
    say(
      "NOTE: there is no validation list, so nothing can be evaluated; give --list val=FILE or "
      "--holdout 0.1 to have one"
    )
  elif len(info.lists["val"]) < splits.FEW:
    say(
      f"NOTE: only {len(info.lists['val'])} pictures are in the list 'val': scores on so few say "
      "little; give more with --list val=FILE or a larger --holdout"
    )
  absent = [name for name, pixels in zip(info.classes, info.class_pixels) if not pixels]
  if absent and any(info.labeled):
    say(f"NOTE: no label at all shows: {', '.join(absent)}; no network can learn what is not shown")


def _parse(argv: list[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m data_prep.folder",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--images", required=True, help="folder of pictures")
  parser.add_argument("--labels", help="folder of label files; pictures may lack one")
  parser.add_argument("--classes", required=True, help="JSON, or text with 'name [r g b]' a line")
  parser.add_argument("--out", required=True, help="the dataset's folder, which must not exist")
  parser.add_argument(
    "--list",
    action="append",
    default=[],
    metavar="NAME=FILE",
    dest="lists",
    help="a named list of ids, e.g. train=, val=, labeled_1_8=; repeatable",
  )
  parser.add_argument(
    "--holdout",
    type=float,
    default=0.0,
    metavar="SHARE",
    help="share of the labeled pictures to make the list 'val' of",
  )
  parser.add_argument("--name", help="the dataset's name, by default that of its folder")
  parser.add_argument("--channels", type=int, help="by default those of the first picture")
  parser.add_argument(
    "--value_range",
    type=float,
    nargs=2,
    metavar=("LOW", "HIGH"),
    help="values that become 0 and 255 in pictures of other than 8 bits",
  )
  parser.add_argument("--ignore_id", type=int, help="label of pixels without a class")
  parser.add_argument(
    "--label_colors",
    action="store_true",
    help="labels are pictures in the colors of the classes file",
  )
  parser.add_argument(
    "--label_values",
    type=int,
    nargs="+",
    metavar="VALUE",
    help="the values of the classes in labels, in the file's order: 0 255 for black and white",
  )
  parser.add_argument(
    "--first_id", type=int, choices=(0, 1), help="the id of the first line of a text of classes (0)"
  )
  for what in ("image", "label"):
    parser.add_argument(
      f"--{what}_suffix", default="", help="end of file names after the id: _mask or _mask.png"
    )
    parser.add_argument(f"--{what}_prefix", default="", help="start of file names before the id")
  parser.add_argument(
    "--merge_masks",
    action="store_true",
    help="join several masks of a picture (a_mask.png, a_mask_1.png), whose values are classes",
  )
  parser.add_argument(
    "--class_masks",
    action="store_true",
    help="join masks of single classes (a_car.png, a_car_2.png, car/a.png), all but 0 in them; a "
    "later class covers an earlier one, pixels in no mask are of the first class, or ignored where "
    "it has masks",
  )
  parser.add_argument(
    "--all_pictures", action="store_true", help="files with names of masks are pictures"
  )
  add_flags(parser)
  options = parser.parse_args(argv)
  pairs = [text.partition("=") for text in options.lists]
  for name, equals, file in pairs:
    if not (name and equals and file):
      parser.error(f"--list {name}{equals}{file}: write NAME=FILE")
  if len({name for name, _, _ in pairs}) < len(pairs):
    parser.error("--list: a name is given twice")
  options.lists = {name: file for name, _, file in pairs}
  options.label_values = options.label_values and tuple(options.label_values)
  return options


def main(argv: list[str]) -> None:
  """The command; ends with status 1 and the message when something is wrong with the data."""
  options = vars(_parse(argv))
  out = options.pop("out")
  writing = {key: options.pop(key) for key in ("name", "workers", "codec", "overwrite")}
  with command.ending():
    prepare(Source(**options), out, **writing)


if __name__ == "__main__":
  main(sys.argv[1:])
