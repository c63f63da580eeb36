"""The sheet of both lists has no empty column, however long they are."""

import numpy as np
import pytest

from semiseg_jax.suggesting import sheet

CLASSES, COLORS = ("road", "sky"), ((128, 64, 128), (70, 130, 180))
IMAGE, LABEL = np.full((30, 40, 3), 90, np.uint8), np.zeros((30, 40), np.uint8)


def _suggested(rank):
  panels = sheet.panels(IMAGE, (LABEL,), COLORS, sheet.WIDE)
  doubt = sheet.small(np.full((30, 40), 0.5), sheet.WIDE)
  return sheet.suggested_row(f"{rank}. a", "entropy", panels, doubt)


def _suspicious(rank):
  boxes = [(4, 4, 9, 9)]
  return sheet.suspicious_row(f"{rank}. b", "why", IMAGE, LABEL, LABEL, LABEL, boxes, COLORS)


@pytest.mark.parametrize("few, many", [(2, 8), (8, 2), (1, 24), (3, 3)])
def test_few_rows_leave_no_empty_column(few, many):
  rows = [_suggested(k) for k in range(few)], [_suspicious(k) for k in range(many)]
  page = sheet.page(*rows, ("Label next", "Look again"), CLASSES, COLORS)
  columns = np.array_split(page, 8, axis=1)
  inked = [(part < 250).any(-1).mean() for part in columns]
  assert min(inked) > 0.4 * max(inked) > 0.2  # an odd number leaves one place at the end
  rows_inked = (page < 250).any(-1).mean(1)
  assert (rows_inked > 0.4).mean() > 0.6  # no large gap between the lists


def test_one_list_alone_is_as_wide_as_its_rows():
  page = sheet.page([_suggested(1)], [], ("Label next", "No suspicious labels"), CLASSES, COLORS)
  assert 950 < page.shape[1] < 1050
  empty = sheet.page([], [], ("Label next", "No suspicious labels"), CLASSES, COLORS)
  assert empty.shape[0] < 200
