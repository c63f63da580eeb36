"""Random keys depend on their name, the step and the row, and on nothing else."""

import jax
import numpy as np

from semiseg_jax.ops.keys import example_keys, named_key


def _data(keys):
  return np.asarray(jax.random.key_data(keys)).reshape(-1, 2)


def test_a_row_has_its_key_whatever_the_size_of_the_batch():
  key = jax.random.key(3)
  large = _data(example_keys(key, "cutmix", np.arange(16)))
  np.testing.assert_array_equal(_data(example_keys(key, "cutmix", np.arange(4))), large[:4])


def test_rows_names_and_steps_differ():
  steps = [jax.random.fold_in(jax.random.key(3), t) for t in range(3)]
  drawn = [
    _data(example_keys(key, name, np.arange(8)))
    for key in steps
    for name in ("cutmix", "dropout", "")
  ]
  assert len({tuple(row) for rows in drawn for row in rows}) == 3 * 3 * 8


def test_the_values_are_fixed():
  """They decide every run: another way of making them is another recipe."""
  key = jax.random.key(0)
  named = jax.random.fold_in(key, 0x4023F5B0)  # crc32 of 'cutmix'
  np.testing.assert_array_equal(_data(named_key(key, "cutmix")), _data(named))
  rows = [_data(jax.random.fold_in(named, row))[0] for row in range(3)]
  np.testing.assert_array_equal(_data(example_keys(key, "cutmix", np.arange(3))), rows)
