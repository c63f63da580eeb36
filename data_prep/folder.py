"""Own pictures -> shards: a folder of pictures, optionally labels, a classes file, lists of ids.

  python -m data_prep.folder --images DIR --labels DIR --classes FILE --out data/mine \\
      --list labeled_1_8=FILE --holdout 0.1

A picture's id is its file name without folder and suffix, or with its folders where names repeat;
its label has the same id. Pictures without a label are unlabeled. Labels may lie beside the
pictures or below them: --label_suffix _mask or --label_prefix mask_ tells them apart, and so do a
folder of masks, or JPEG beside PNG. Folders train/, val/ and test/ become lists.
"""

import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data_prep import command
from data_prep.annotations import drawing
from data_prep.annotations.shapes import Annotated
from data_prep.shards.convert import Loaded, convert, report, source_error
from data_prep.sources import (
  folder_holdout,
  folder_leaks,
  folder_options,
  folder_shapes,
  label_merging,
  label_survey,
  layouts,
  nodata,
  reading_notes,
)
from data_prep.sources.folder_holdout import ClassPixels
from data_prep.sources.folder_lists import Lists, make_lists
from data_prep.sources.folder_options import Source
from data_prep.sources.folder_pairs import Mask, Pairs, find_pairs
from data_prep.sources.folder_shapes import Shapes
from semiseg_jax.data import pictures, splits
from semiseg_jax.data.class_table import ClassTable, read_classes
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.errors import SHOWN, DataError
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted


@dataclasses.dataclass(frozen=True)
class Files:
  """A picture and its masks, or its shapes; `classes` of masks if each is of one.

  The rest is for convert.
  """

  id: str
  image: str
  labels: tuple[str, ...]
  classes: tuple[int, ...]
  bytes: int
  stamp: str
  shapes: Annotated | None = None


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
  wrong: list[str] = []
  shapes = folder_shapes.find_shapes(source, table, wrong, say)
  table = shapes.table if shapes else table
  folder_options.check_options(source, table)
  items, lists, relist = _plan(source, table, shapes, wrong, say)
  if wrong:
    say(f"{_count(wrong)} found already; reading the files to name all in one message")
  path, first = _first_picture(source, [item.image for item in items], wrong)
  channels = source.channels or layouts.channels_of(path, first.pixels.shape)
  reading = source.reading() | folder_options.kind_for_range(source, path, first.values)
  out = pathlib.Path(out)
  info = convert(
    out,
    items,
    functools.partial(
      _load,
      table=table,
      channels=channels,
      reading=reading | {"max_pixels": source.max_pixels},
      nodata_of_labels=source.nodata,
      label_colors=source.label_colors,
      by_value=source.label_values is not None,
      rest=_rest(items),
      rules=shapes and shapes.rules,
    ),
    name=name or out.name,
    classes=table.names,
    colors=table.colors,
    channels=channels,
    source_ignore_id=table.ignore_id,
    source_ids=_source_ids(source, table),
    lists=lists,
    relist=relist if source.stratify else None,
    workers=workers,
    overwrite=overwrite,
    codec=codec,
    problems=wrong,
    reading=reading,
    say=say,
  )
  report(info, out, say)
  folder_leaks.say_leaks(info.lists, {item.id: item.image for item in items}, say)
  folder_holdout.say_held(info, source.hold_out(), say)
  reading_notes.say_how(info, say)
  _say_absent(info, say)
  return info


def _count(problems: list[str]) -> str:
  return counted(len(problems), "problem is", "problems are")


def _source_ids(source: Source, table: ClassTable) -> tuple[int, ...]:
  """The ids in masks; () where these have colors, or a class has none, as an added background."""
  none = source.label_colors or source.class_masks or min(table.source_ids) < 0
  return () if none else table.source_ids


def _plan(
  source: Source,
  table: ClassTable,
  shapes: Shapes | None,
  wrong: list[str],
  say: Callable[[str], None],
) -> tuple[list[Files], Lists, Callable[[ClassPixels], Lists]]:
  """The files of each picture, the lists, and what makes these when the labels are counted.

  Appends to `wrong` what is wrong with files or lists.
  """
  folders = source.folders()
  pairs = shapes.find_pairs(folders, wrong, say) if shapes else find_pairs(folders, wrong, say)
  ids, labels = list(pairs.pictures), pairs.labels
  given = (source.lists, source.hold_out(), folders.image, ids, labels)
  lists = make_lists(*given, wrong, pairs.lists)
  relist = functools.partial(make_lists, *given, [], pairs.lists)
  _say_meaning(source, table, pairs, lists, say)
  if not (source.label_colors or source.class_masks or shapes):
    paths = [mask.path for masks in labels.values() for mask in masks]
    stated = source.ignore_id is not None or table.ignored_name is not None
    wrong += label_survey.survey(
      paths,
      table,
      palettes=not table.palette,
      say=say,
      ignored_is_stated=stated,
      values_are_stated=source.label_values is not None,
    )
  return _items(source, pairs, table, wrong), lists, relist


def _first_picture(
  source: Source, images: list[str], wrong: list[str]
) -> tuple[str, pictures.Picture]:
  """The first picture that can be read, of which there should be one among the first."""
  unreadable = []
  for image in images[:SHOWN]:
    try:
      return image, pictures.read_picture(
        image, channels=source.channels, **source.reading(), max_pixels=source.max_pixels
      )
    except DataError as error:
      unreadable.append(str(error))
  raise source_error(wrong + unreadable)


def _say_meaning(
  source: Source,
  table: ClassTable,
  pairs: Pairs,
  lists: Lists,
  say: Callable[[str], None],
) -> None:
  """Says what was not asked for in so many words."""
  for note in table.notes:
    say(f"NOTE: {note}")
  if table.ignored_name is not None:
    say(
      f"NOTE: {table.ignored_name!r} of {source.classes} has the ignored id {table.ignore_id} and "
      "is no class"
    )
  are_masks = source.labels is not None and not pairs.shapes
  if table.counted and are_masks and not (source.label_colors or source.class_masks):
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
    what = "folders or files of annotations" if pairs.shapes else "folders"
    say(f"{what} make the lists {', '.join(made)}")


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
    items.append(_item(id_, image, masks, classes, pairs.shapes.get(id_)))
  return items


def _rest(items: list[Files]) -> int:
  """The class of pixels in no mask of a class: the first one, unless it has masks of its own."""
  return IGNORE if any(0 in item.classes for item in items) else 0


def _item(
  id_: str,
  image: pathlib.Path,
  masks: tuple[Mask, ...],
  classes: tuple[int, ...],
  shapes: Annotated | None,
) -> Files:
  stats = [_stat(path) for path in (image, *(mask.path for mask in masks))]
  return Files(
    id_,
    str(image),
    tuple(str(mask.path) for mask in masks),
    classes,
    stats[0][0] if shapes else sum(size for size, _ in stats),
    " ".join(f"{size}:{time_ns}" for size, time_ns in stats),
    shapes,
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
  reading: Mapping[str, Any],
  nodata_of_labels: str | None,
  label_colors: bool,
  by_value: bool,
  rest: int,
  rules: drawing.Rules | None,
) -> Loaded:
  """A picture and its label; DataError of all that is wrong with the two."""
  picture = label = None
  wrong = []
  of_labels = {"exif": reading["exif"], "max_pixels": reading["max_pixels"]}
  try:
    picture = pictures.read_picture(item.image, channels=channels, **reading)
  except DataError as error:
    wrong.append(str(error))
  try:
    if item.shapes and picture is not None:
      label = drawing.draw_or_blank(item.shapes, picture.pixels.shape[:2], rules)
    elif item.classes:
      masks = [nodata.read_mask(path, **of_labels) for path in item.labels]
      label = label_merging.merge_classes(masks, item.classes, item.labels, rest)
    elif item.labels and not item.shapes:
      labels = [
        _read_label(path, table, label_colors, by_value, nodata_of_labels, **of_labels)
        for path in item.labels
      ]
      label = label_merging.merge_values(labels, item.labels)
  except DataError as error:
    wrong.append(str(error))
  if picture is not None and label is not None and label.shape != picture.pixels.shape[:2]:
    wrong.append(reading_notes.size_error(item.labels[0], label, item.image, picture, **reading))
  if wrong:
    raise DataError("\n".join(wrong))
  if label is not None and picture.valid is not None:
    label[~picture.valid] = IGNORE
  facts = reading_notes.facts(picture)
  return Loaded(
    picture.pixels if picture.file is None else picture.file, label, picture.valid, facts
  )


def _read_label(
  path: str,
  table: ClassTable,
  colors: bool,
  by_value: bool,
  nodata_of_labels: str | None,
  **reading: Any,
) -> np.ndarray:
  """Classes uint8 [H, W]; DataError, too, for a palette that contradicts the classes' colors.

  `by_value`, a palette of grays or a file of one bit may have the values that one sees: 0 and 255.
  """
  raw = pictures.read_label(path, colors=colors, grays=table.are_grays_ids, **reading)
  absent = nodata.of_label(path, raw, table, nodata_of_labels)
  if absent is None and by_value and not table.knows(raw):
    seen = pictures.read_label(path, colors=True, **reading)
    if (seen == seen[..., :1]).all() and table.knows(seen[..., 0]):
      return table.convert(seen[..., 0], path)
  palette = None if colors or not table.palette else pictures.read_palette(path)
  if palette is not None:
    table.check_palette(raw, palette, path)
  return nodata.convert(raw, absent, table, path)


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
      f"NOTE: only {counted(len(info.lists['val']), 'picture')} in the list 'val': scores on so "
      "few say "
      "little; give more with --list val=FILE or a larger --holdout"
    )
  absent = [name for name, pixels in zip(info.classes, info.class_pixels) if not pixels]
  if absent and any(info.labeled):
    say(f"NOTE: no label at all shows: {', '.join(absent)}; no network can learn what is not shown")


def main(argv: list[str]) -> None:
  """The command; ends with status 1 and the message when something is wrong with the data."""
  options = vars(folder_options.parse(argv, __doc__))
  out = options.pop("out")
  writing = {key: options.pop(key) for key in ("name", "workers", "codec", "overwrite")}
  with command.ending():
    prepare(Source(**options), out, **writing)


if __name__ == "__main__":
  main(sys.argv[1:])
