"""Masks of boxes against loops; of whole and of real numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops.boxes import inside_boxes

RECTANGLES = np.array([[0, 0, 4, 5], [1, 2, 3, 4], [2, 0, 2, 5], [3, 0, 4, 1]], np.int32)


@pytest.mark.parametrize("kind, leading", [("int32", (4,)), ("float32", (2, 2))])
def test_inside_boxes(kind, leading):
  boxes = jnp.asarray(RECTANGLES.reshape(*leading, 4), kind)
  found = np.asarray(inside_boxes(boxes, 4, 5))
  assert found.dtype == bool and found.shape == (*leading, 4, 5)
  for row, (y0, x0, y1, x1) in zip(found.reshape(-1, 4, 5), RECTANGLES):
    for y, x in np.ndindex(4, 5):
      assert row[y, x] == (y0 <= y < y1 and x0 <= x < x1)
