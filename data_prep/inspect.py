"""What is in a dataset, and whether all of it can be read.

  python -m data_prep.inspect data/mine

Prints counts, lists, classes and files, draws a sheet of pictures and labels beside the dataset,
and reads every record. Ends with status 1 and names every damaged shard and record, and whatever is
not as it was sealed; --quick leaves the reading out. --seal seals metadata anew, of a dataset of an
earlier version or after an edit by hand, where everything else is right.
"""

import argparse
import collections
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

from data_prep import command
from data_prep.shards import contact_sheet
from data_prep.shards import workers as processes
from data_prep.shards.verify import seal_problems, verify
from semiseg_jax import arguments
from semiseg_jax.data import splits
from semiseg_jax.data.dataset import METADATA, Dataset, DatasetInfo
from semiseg_jax.data.records import CODECS
from semiseg_jax.data.writing import dataset_lists
from semiseg_jax.errors import DataError
from semiseg_jax.evaluation.pictures import write_png
from semiseg_jax.wording import counted

_SIZES = 5
_BAR = 24


def inspect(
  root: str | os.PathLike,
  *,
  sheet: str | os.PathLike | None = None,
  quick: bool = False,
  workers: int = 0,
  seal: bool = False,
  say: Callable[[str], None] = print,
) -> list[str]:
  """Says what is in the dataset `root`, draws its sheet, and returns what is wrong with it.

  Args:
    root: the dataset's folder.
    sheet: the PNG to draw, None for ROOT-contact.png beside the dataset.
    quick: do not read all records.
    workers: number of processes that read, 0 for none besides this one.
    seal: seal the metadata as they stand, where all records, lists and counts are right.
    say: is told everything.

  Raises:
    DataError: there is no dataset that can be opened.
  """
  dataset = Dataset.open(root, sealed=False)
  for line in describe(dataset):
    say(line)
  problems = seal_problems(dataset)
  problems += [] if quick else verify(dataset, workers)
  if seal:
    problems = _seal(dataset, problems, say)
  problems += _draw(dataset, _sheet_path(dataset, sheet), bool(problems), say)
  if not problems:
    say("not verified (--quick)" if quick else f"verified: all {len(dataset)} records are whole")
  return problems


def _seal(dataset: Dataset, problems: list[str], say: Callable[[str], None]) -> list[str]:
  """Seals the metadata unless more than their seal is wrong, which is returned."""
  others = [line for line in problems if not line.startswith(f"{METADATA}: ")]
  if others:
    return [*others, "so it was not sealed"]
  dataset_lists.seal(dataset)
  say(
    "sealed as it stands. NOTE: no record tells of its name, colors, ids in the masks, ways of "
    "reading, mean and std: look at those above"
  )
  return []


def describe(dataset: Dataset) -> list[str]:
  """The lines of text on a dataset, from its metadata alone."""
  info, total = dataset.info, sum(shard.bytes for shard in dataset.shards)
  return [
    f"{dataset.root}: {info.name}",
    f"  pictures     {len(info.ids):,} of {info.channels} channels, {sum(info.labeled):,} with a "
    "label",
    f"  sizes        {_sizes(info)}",
    f"  files        {counted(len(dataset.shards), 'shard')}, {total / 1e6:,.1f} MB, "
    f"{total / len(info.ids) / 1e3:,.1f} kB a picture",
    f"  codec        {info.codec}: {CODECS[info.codec]}",
    f"  ignored id   {'none' if info.source_ignore_id is None else info.source_ignore_id} in the "
    "source's labels, 255 in the dataset",
    *_reading(info),
    f"  fingerprint  {info.fingerprint}",
    *_lists(info),
    *_classes(info),
  ]


def _reading(info: DatasetInfo) -> list[str]:
  """How files became pictures, and what was measured, as far as it is known."""
  taken = ", ".join(f"{key} {value}" for key, value in sorted(info.reading.items()))
  counted = ", ".join(f"{key} {value:,}" for key, value in info.facts.items())
  lines = [f"  read with    {taken}" + (f" ({counted})" if counted else "")] if taken else []
  if info.mean:
    mean, std = (", ".join(f"{value:.3f}" for value in x) for x in (info.mean, info.std))
    lines.append(f"  measured     mean {mean}, std {std} of the training pictures")
  return lines


def _sizes(info: DatasetInfo) -> str:
  counts = collections.Counter(info.sizes).most_common()
  shown = ", ".join(f"{width}x{height} ({n:,})" for (height, width), n in counts[:_SIZES])
  if len(counts) <= _SIZES:
    return shown
  heights, widths = zip(*info.sizes)
  return (
    f"{shown} and {counted(len(counts) - _SIZES, 'other')}; widths {min(widths)} to {max(widths)}, "
    "heights "
    f"{min(heights)} to {max(heights)}"
  )


def _lists(info: DatasetInfo) -> list[str]:
  labeled = {id_ for id_, flag in zip(info.ids, info.labeled) if flag}
  lines = [
    ("list", "pictures", "with a label", ""),
    *(
      (
        name,
        f"{len(ids):,}",
        f"{len(labeled & set(ids)):,}",
        "NOTE: few for an evaluation" if name == "val" and len(ids) < splits.FEW else "",
      )
      for name, ids in info.lists.items()
    ),
  ]
  return ["", *_table(lines)] if info.lists else ["", "no lists"]


def _classes(info: DatasetInfo) -> list[str]:
  total, most = sum(info.class_pixels), max(max(info.class_pixels), 1)
  if not total:
    return [
      "",
      f"{counted(len(info.classes), 'class', 'classes')} ({', '.join(info.classes)}), no labels",
    ]
  rows = [("id", "class", "pixels", "share", "", "")]
  with_labels = {name: pixels for name, pixels in info.list_pixels.items() if any(pixels)}
  for number, (name, pixels) in enumerate(zip((*info.classes, "ignored"), info.class_pixels)):
    ignored = number == len(info.classes)
    absent = [list_ for list_, counts in with_labels.items() if not counts[number]]
    note = f"NOTE: in no label of {', '.join(absent)}" if absent and not ignored else ""
    bar = "#" * -(-_BAR * pixels // most)
    rows.append(
      (
        "255" if ignored else str(number),
        name,
        f"{pixels:,}",
        f"{pixels / total:.2%}",
        bar,
        "NOTE: in no label at all" if not pixels and not ignored else note,
      )
    )
  return ["", *_table(rows)]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
  """Columns as wide as needed, numbers to the right."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  lines = []
  for row in rows:
    cells = [
      text.rjust(width)
      if text[:1].isdigit() or text in ("pixels", "share", "pictures", "id")
      else text.ljust(width)
      for text, width in zip(row, widths)
    ]
    lines.append("  " + "  ".join(cells).rstrip())
  return lines


def _sheet_path(dataset: Dataset, sheet: str | os.PathLike | None) -> pathlib.Path:
  root = pathlib.Path(dataset.root)
  return root.with_name(f"{root.name}-contact.png") if sheet is None else pathlib.Path(sheet)


def _draw(
  dataset: Dataset, path: pathlib.Path, damaged: bool, say: Callable[[str], None]
) -> list[str]:
  try:
    write_png(path, contact_sheet.draw(dataset, contact_sheet.choose(dataset.info.labeled)))
  except DataError as error:
    return [] if damaged else [str(error)]
  except OSError as error:  # of a dataset that others own
    say(f"NOTE: no sheet was drawn ({error}); choose its place with --sheet")
    return []
  say(f"sheet of pictures and labels: {path}")
  return []


def main(argv: Sequence[str] | None = None) -> None:
  """The command; ends with status 1 when something is wrong."""
  parser = arguments.Parser(
    "data_prep.inspect",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("dataset", help="the dataset's folder")
  parser.add_argument("--sheet", help="the PNG to draw (DATASET-contact.png)")
  parser.add_argument("--quick", action="store_true", help="do not read all records")
  parser.add_argument("--seal", action="store_true", help="seal the metadata as they stand")
  processes.add_flag(parser)
  flags = parser.parse_args(argv)
  if flags.seal and flags.quick:
    parser.error("--seal reads everything: leave --quick out")
  with command.ending():
    problems = inspect(
      flags.dataset,
      sheet=flags.sheet,
      quick=flags.quick,
      workers=flags.workers,
      seal=flags.seal,
    )
  if problems:
    count = counted(len(problems), "problem")
    sys.exit("\n".join([f"error: {count} with {flags.dataset}; prepare it again:", *problems]))


if __name__ == "__main__":
  main()
