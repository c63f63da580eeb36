"""Dropout of channels: the laws of the masks."""

import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops.channels import chosen_rows, complementary_masks, dropout_masks


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_survivors_are_scaled(rate):
  u = np.random.default_rng(0).random((2, 3, 4000)).astype(np.float32)
  masks = np.asarray(dropout_masks(jnp.asarray(u), rate))
  np.testing.assert_allclose(masks, np.where(u < rate, 0, 1 / (1 - rate)), rtol=1e-6)
  assert abs(masks.mean() - 1) < 0.02


def test_complementary_masks_add_up_to_two():
  rng = np.random.default_rng(0)
  b, whole = rng.random((2, 4, 5)) < 0.5, np.array([[1, 0, 0, 1], [0, 0, 1, 0]], bool)
  first, second = (np.asarray(m) for m in complementary_masks(jnp.asarray(b), jnp.asarray(whole)))
  np.testing.assert_array_equal(first + second, 2)
  np.testing.assert_array_equal(first[~whole], 2 * b[~whole])
  assert (first[whole] == 1).all()


@pytest.mark.parametrize("rows, groups, count", [(6, 1, 3), (6, 2, 1), (5, 1, 2), (8, 2, 2)])
def test_half_of_each_group_is_chosen(rows, groups, count):
  order = np.random.default_rng(0).random((3, rows))
  found = np.asarray(chosen_rows(jnp.asarray(order), groups))
  for chosen, numbers in zip(found.reshape(-1, rows // groups), order.reshape(3 * groups, -1)):
    assert chosen.sum() == count
    assert set(numbers[chosen]) == set(np.sort(numbers)[:count])
