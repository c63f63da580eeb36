"""Labels and pictures of GeoTIFFs, which name a value that means: there are no data here."""

import pathlib
from typing import Any

import numpy as np

from semiseg_jax.data import pictures, tiff
from semiseg_jax.data.class_table import ClassTable
from semiseg_jax.errors import DataError
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted

CHOICES = ("ignore", "keep")


def of_label(path: str, raw: np.ndarray, table: ClassTable, how: str | None) -> np.ndarray | None:
  """Where a label has no data, bool [H, W]; None where it has everywhere.

  Args:
    path: of its file, which is read for the value if it is a TIFF.
    raw: ids [H, W] or colors [H, W, 3].
    table: the classes.
    how: one of CHOICES; None ignores the value unless it is that of a class.

  Raises:
    DataError: it is that of a class, and nobody said what is meant.
  """
  value = _value(path) if how != "keep" else None
  if value is None:
    return None
  found = tiff.is_value(raw, value)
  found = found.all(axis=2) if found.ndim == 3 else found
  class_ = _class_of(value, raw.ndim, table)
  if not found.any() or class_ == IGNORE:
    return None
  if class_ is not None and how is None:
    raise DataError(
      f"{path}: {counted(int(found.sum()), 'pixel has', 'pixels have')} the file's nodata value "
      f"{value:g}, which is the class "
      f"{table.names[class_]!r}; give --nodata keep if they show it, or --nodata ignore if they "
      "show nothing"
    )
  return found


def _value(path: str) -> float | None:
  if pathlib.PurePath(path).suffix.lower() not in tiff.SUFFIXES:
    return None
  page = tiff.first_page(path)
  return page.nodata if page else None


def _class_of(value: float, ndim: int, table: ClassTable) -> int | None:
  """The class that pixels of this value have, IGNORE for the ignored id; None for no class."""
  if ndim == 3:
    return table.palette.get((value,) * 3)
  if value == table.ignore_id:
    return IGNORE
  return table.source_ids.index(value) if value in table.source_ids else None


def convert(raw: np.ndarray, absent: np.ndarray | None, table: ClassTable, path: str) -> np.ndarray:
  """Classes uint8 [H, W] of a label, IGNORE where `absent`."""
  if absent is None:
    return table.convert(raw, path)
  some = np.array(table.source_ids[0] if raw.ndim == 2 else next(iter(table.palette)), np.int64)
  filled = np.where(absent if raw.ndim == 2 else absent[..., None], some, raw)
  label = table.convert(filled, path)
  label[absent] = IGNORE
  return label


def read_mask(path: str, **reading: Any) -> np.ndarray:
  """A mask of one class [H, W], 0 where it has no data."""
  mask = pictures.read_label(path, grays=True, **reading)
  value = _value(path)
  return mask if value is None else np.where(tiff.is_value(mask, value), 0, mask)
