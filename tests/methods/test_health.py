"""Numbers about pseudo labels, against a picture small enough to count by hand."""

import jax.numpy as jnp
import numpy as np

from semiseg_jax.methods.health import pseudo_label_health

NONE = 255


def _measure(pseudo, truth, classes=3):
  found = pseudo_label_health(
    jnp.asarray(pseudo, jnp.uint8), jnp.asarray(truth, jnp.uint8), classes
  )
  return {name: (np.asarray(s), float(c)) for name, (s, c) in found.items()}


def test_counted_by_hand():
  pseudo = [
    [[[0, 1, 2], [2, 2, NONE]]],
    [[[0, 1, 1], [2, NONE, NONE]]],
  ]
  truth = [[[0, 0, 1], [NONE, 2, 2]]]
  found = _measure(pseudo, truth)
  assert found["pseudo/kept"] == (9, 12)
  assert found["pseudo/agreement"] == (3, 4)  # where both have one: 0-0, 1-1, 2-1, 2-2
  assert found["pseudo/accuracy_0"] == (2, 4)  # 0 right, 1 wrong, 2 wrong, 2 right
  assert found["pseudo/accuracy_1"] == (2, 3)  # 0 right, 1 wrong, 1 right
  np.testing.assert_array_equal(found["pseudo/histogram"][0], [2, 3, 4])
  assert found["pseudo/histogram"][1] == 9


def test_agreement_is_of_all_networks():
  pseudo = [[[[0, 1]]], [[[0, 1]]], [[[0, 2]]]]
  assert _measure(pseudo, [[[0, 0]]])["pseudo/agreement"] == (1, 2)


def test_nothing_hidden_and_nothing_kept_count_nothing():
  everywhere_none = np.full((2, 1, 2, 2), NONE)
  found = _measure(everywhere_none, np.zeros((1, 2, 2)))
  assert found["pseudo/kept"] == (0, 8) and found["pseudo/accuracy_1"] == (0, 0)
  assert found["pseudo/agreement"] == (0, 0)
  without_truth = _measure(np.zeros((2, 1, 2, 2)), np.full((1, 2, 2), NONE))
  assert without_truth["pseudo/accuracy_0"] == (0, 0)
