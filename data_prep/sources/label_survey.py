"""What labels look like together, before any is converted: what no single file can tell.

Binary masks of 0 and 255, of which 255 would be taken for "ignored", alone or among masks of ids;
ids that count from 1 where the classes count from 0; palettes that change from file to file, or
that show ids in grays of another order.
"""

import concurrent.futures
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from semiseg_jax.data import pictures
from semiseg_jax.data.class_table import ClassTable
from semiseg_jax.errors import DataError
from semiseg_jax.wording import counted

T = TypeVar("T")
_SAMPLE = 64
_READERS = 8


def survey(
  labels: Sequence[pathlib.Path],
  table: ClassTable,
  *,
  palettes: bool,
  say: Callable[[str], None],
  ignored_is_stated: bool = False,
  values_are_stated: bool = False,
) -> list[str]:
  """What is wrong with the labels as a whole; what is wrong with single ones is left out.

  Of three and more classes most labels are only read where those before raise a doubt.

  Args:
    labels: the files, whose values are ids.
    table: what the ids are.
    palettes: whether palettes must agree with each other: nobody gave their colors.
    say: is told of what may be right.
    ignored_is_stated: whether somebody said what the ignored id is.
    values_are_stated: whether somebody said what the values of the classes are.
  """
  wrong = _values(labels, table, ignored_is_stated, say)
  if not (values_are_stated or table.palette):
    wrong += _unordered_grays(labels, table)
  if palettes:
    wrong += _palettes(labels)
  if not wrong and not table.palette:
    _tell_colors(labels, table, say)
  return wrong


def _values(
  labels: Sequence[pathlib.Path],
  table: ClassTable,
  ignored_is_stated: bool,
  say: Callable[[str], None],
) -> list[str]:
  size = len(labels) if len(table.names) == 2 else min(_SAMPLE, len(labels))
  chosen = np.unique(np.linspace(0, len(labels) - 1, size).astype(int))
  sample = [labels[index] for index in chosen]
  rest = [path for index, path in enumerate(labels) if index not in set(chosen.tolist())]
  seen: dict[pathlib.Path, set[int]] = {}
  doubt = ""
  for part in (sample, rest):
    seen |= zip(part, _read(part, _values_of))
    values = set().union(*seen.values())
    doubt = _doubtful(values, table) or ("" if ignored_is_stated else _mixed(seen, table))
    if not doubt:
      binary = [path for path, found in seen.items() if found == {0, 255}]
      if binary and table.ignore_id == 255:
        say(
          f"NOTE: {len(binary)} of {counted(len(seen), 'label')} with only 0 and the ignored 255, "
          "such as "
          f"{binary[0]}; if 255 is a class there, give them the values of the others"
        )
      return []
  return [doubt] if seen else []


def _mixed(seen: Mapping[pathlib.Path, set[int]], table: ClassTable) -> str:
  """Why masks of 0 and 255 among masks of ids cannot be what they seem to be; empty if they can.

  They can where 255 occurs beside the id of another class than the first, as a border does.
  """
  binary = [path for path, found in seen.items() if 255 in found and found <= {0, 255}]
  ids = {path: found - {0, 255} for path, found in seen.items() if found - {0, 255}}
  if not (binary and ids) or table.ignore_id != 255 or any(255 in seen[path] for path in ids):
    return ""
  shown = ", ".join(map(str, sorted(set().union(*ids.values()))[:8]))
  return (
    f"{len(binary)} labels hold 0 and 255, such as {binary[0]}, and {len(ids)} others the ids "
    f"{shown}, such as {next(iter(ids))}, but none holds both: if 255 is a class in the former, "
    f"save them with the id of this class in its place; if it is none anywhere, give --ignore_id "
    "255"
  )


def _doubtful(values: set[int], table: ClassTable) -> str:
  """Why these values of all labels cannot be what they seem to be; empty when they can."""
  lowest = table.source_ids[0]
  if values == {0, 255} and table.ignore_id == 255 and len(table.names) > 1:
    return (
      "the labels hold 0 and 255 only, and 255 is the ignored id: all but one class would vanish; "
      f"{_mend_of_binary(table)}"
    )
  shifted = values - {table.ignore_id}
  if values and not shifted:
    return (
      f"the labels hold nothing but the ignored id {table.ignore_id}; correct them, or, if it is "
      f"the value of a class, give --label_values with {table.ignore_id} in the place of this class"
    )
  if table.counted and shifted and lowest not in shifted and min(shifted) == 1:
    names = ", ".join(
      f"{id_} = {table.names[id_]}" for id_ in sorted(shifted) if id_ < len(table.names)
    )
    return (
      f"no label holds the id 0 ({table.names[0]}), as if the labels counted classes from 1: give "
      f"--first_id 1 if they do, or --first_id 0 if they mean {names}"
    )
  return ""


def _mend_of_binary(table: ClassTable) -> str:
  """What to do about masks of 0 and 255."""
  names = ", ".join(table.names[:8]) + (", ..." if len(table.names) > 8 else "")
  if len(table.names) == 2:
    return (
      f"if they are masks of two classes, {names.replace(', ', ' and ')}, give --label_values 0 255"
    )
  return (
    f"they show two classes where {len(table.names)} are named ({names}): give --label_values 0 "
    "255 with a --classes file that names just the two that they show, what is black first; or, "
    "if each mask is of the class that its name says (a_car.png), data_prep.folder --class_masks"
  )


def _values_of(path: pathlib.Path) -> set[int]:
  try:
    return set(np.unique(pictures.read_label(path, grays=True)).tolist())
  except DataError:  # converting the file will tell
    return set()


def _palettes(labels: Sequence[pathlib.Path]) -> list[str]:
  """Palettes of which a used index has another color than in an earlier file."""
  heads = set()
  for palette in _read(labels, pictures.read_palette):
    heads.add(None if palette is None else _trimmed(palette))
  if len(heads - {None}) < 2:
    return []
  seen: dict[int, tuple[tuple[int, ...], pathlib.Path]] = {}
  wrong = []
  for path, used in zip(labels, _read(labels, used_colors)):
    for index, color in used.items():
      first, where = seen.setdefault(index, (color, path))
      if first != color:
        wrong.append(
          f"{path}: the palette gives index {index} the color {color}, that of {where} {first}, so "
          "the index is no id; give the classes file colors and --label_colors"
        )
        break
  return wrong


def _tell_colors(
  labels: Sequence[pathlib.Path], table: ClassTable, say: Callable[[str], None]
) -> None:
  """Says in what color classes are seen: a quantizer's indices come in any order."""
  used: dict[int, tuple[int, ...]] = {}
  for colors in _read(labels[:_SAMPLE], used_colors):
    used |= colors
  named = [
    f"{name} is seen as {used[id_]}"
    for name, id_ in zip(table.names, table.source_ids)
    if id_ in used and len(set(used[id_])) > 1
  ]
  if named:
    say(
      f"NOTE: indices of palettes are taken for ids: {_listed(named)}; where that is another "
      "class, give the classes file colors and --label_colors"
    )


def _unordered_grays(labels: Sequence[pathlib.Path], table: ClassTable) -> list[str]:
  """That palettes show the ids in grays of another order, as negatives and quantizers have them."""
  suspects = [
    path
    for path, palette in zip(labels, _read(labels, pictures.read_palette))
    if palette is not None
    and not _is_ordered(palette[[i for i in table.source_ids if i < len(palette)]])
  ]
  used = {pair for colors in _read(suspects, used_colors) for pair in colors.items()}
  ids = [index for index, _ in sorted(used)]
  if len(set(ids)) < len(ids) or _is_ordered(np.array([color for _, color in sorted(used)])):
    return []
  grays = [color[0] for _, color in sorted(used)]
  values = " --label_values 0 255 (the first class is black), or" if set(grays) == {0, 255} else ""
  return [
    f"{len(suspects)} labels such as {suspects[0]} have a palette that shows the indices "
    f"{_listed(ids)} in the grays {_listed(grays)}: if classes are what one sees, give{values} the "
    "classes file colors and --label_colors; if they are the indices, give --label_values "
    f"{' '.join(map(str, table.source_ids))}"
  ]


def _is_ordered(colors: np.ndarray) -> bool:
  """Whether colors [n, 3] are not all grays, or ever lighter ones."""
  return not colors.size or bool(
    (colors != colors[:, :1]).any() or (np.diff(colors[:, 0].astype(int)) > 0).all()
  )


def _listed(values: Sequence[object]) -> str:
  return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")


def _trimmed(palette: np.ndarray) -> bytes:
  return palette.tobytes().rstrip(b"\0")


def used_colors(path: pathlib.Path) -> dict[int, tuple[int, ...]]:
  """The colors (r, g, b) of the indices that a palette picture uses; empty for other files."""
  palette = pictures.read_palette(path)
  if palette is None:
    return {}
  return {i: tuple(palette[i].tolist()) for i in sorted(_values_of(path)) if i < len(palette)}


def _read(paths: Sequence[pathlib.Path], read: Callable[[pathlib.Path], T]) -> Iterator[T]:
  with concurrent.futures.ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as pool:
    yield from pool.map(read, paths)
