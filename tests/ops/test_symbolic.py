"""Matrices made from symbols are those made from numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from semiseg_jax.models.backbones import dinov2, rope
from semiseg_jax.ops import resize

SIDES = ((1, 4), (3, 7), (7, 3), (5, 5), (9, 1))


def _of_any_sides(make):
  """`make(source, target)` as a program for any two sides, called with numbers."""
  a, b = export.symbolic_shape("a, b")
  inputs = [jax.ShapeDtypeStruct((side,), jnp.int8) for side in (a, b)]
  f = jax.jit(lambda x, y: make(x.shape[0], y.shape[0]))
  program = export.export(f)(*inputs)
  return lambda source, target: program.call(*(jnp.zeros(n, jnp.int8) for n in (source, target)))


@pytest.mark.parametrize(
  "make",
  [
    functools.partial(resize.bilinear_matrix, align_corners=True),
    functools.partial(resize.bilinear_matrix, align_corners=False),
    resize.average_matrix,
  ],
)
def test_a_matrix_of_any_sides_is_that_of_these(make):
  program = _of_any_sides(make)
  for source, target in SIDES:
    expected = np.float32(make(source, target))
    np.testing.assert_allclose(program(source, target), expected, rtol=2e-7, atol=6e-8)


def test_positions_of_any_grid_are_those_of_this_one_and_its_own_table():
  table = jax.random.normal(jax.random.key(0), (1, 1 + dinov2.GRID**2, 3))
  program = _of_any_sides(lambda h, w: dinov2.interpolate_positions(table, (h, w)))
  for grid in ((4, 6), (dinov2.GRID, 5)):
    expected = dinov2.interpolate_positions(table, grid)
    np.testing.assert_allclose(program(*grid), expected, atol=2e-5)
  np.testing.assert_array_equal(program(dinov2.GRID, dinov2.GRID), table)


def test_rotary_coordinates_of_any_grid():
  program = _of_any_sides(lambda h, w: rope.coordinates((h, w)))
  np.testing.assert_allclose(program(3, 4), rope.coordinates((3, 4)), atol=1e-6)
