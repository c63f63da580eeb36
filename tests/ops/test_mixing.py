"""Half boxes, half of the classes, and who is mixed with whom."""

import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops.mixing import KINDS, class_masks, half_boxes, masks, mixed


@pytest.mark.parametrize("height, width", [(8, 10), (9, 7), (20, 33)])
def test_a_box_is_half_of_the_picture(height, width):
  u = np.random.default_rng(0).random((3000, 3)).astype(np.float32)
  found = np.asarray(half_boxes(jnp.asarray(u), height, width))
  widths, heights = found.any(1).sum(-1), found.any(2).sum(-1)
  assert set(widths) == set(range(width // 2 + 1, width))
  for w, h in set(zip(widths, heights)):
    assert h == round(height * width / 2 / w)
  assert (found.sum((1, 2)) == widths * heights).all(), "a whole box inside"
  counts = np.bincount(widths)[width // 2 + 1 :]
  assert abs(counts / 3000 - 1 / len(counts)).max() < 0.03
  top = found.any(2).argmax(1)
  assert top.min() == 0 and (top + heights).max() == height
  left = found.any(1).argmax(1)
  assert left.min() == 0 and (left + widths).max() == width


def test_half_of_the_classes_is_taken():
  labels = np.array([[0, 0, 1, 2, 3, IGNORE], [1, 1, 4, IGNORE, 4, 2], [3] * 6], np.uint8)
  labels = labels.reshape(3, 2, 3)
  seen = set()
  for seed in range(40):
    u = np.random.default_rng(seed).random((3, 5)).astype(np.float32)
    found = np.asarray(class_masks(jnp.asarray(labels), jnp.asarray(u)))
    for y, m, count in zip(labels, found, (2, 1, 0)):
      taken = set(y[m])
      assert len(taken) == count and IGNORE not in taken
      assert m.sum() == np.isin(y, list(taken)).sum()
    seen.add(frozenset(labels[0][found[0]].tolist()))
  assert len(seen) == 6, "all pairs of four classes"


def test_the_next_picture_is_the_partner():
  x = jnp.arange(3 * 2 * 4, dtype=jnp.int32).reshape(1, 3, 2, 4) * jnp.ones((2, 1, 1, 1), jnp.int32)
  M = jnp.zeros((2, 3, 2, 4), bool).at[0, 0, 1].set(True).at[1, 2, 0].set(True)
  found = np.asarray(mixed("cutmix", M, x, 7))
  np.testing.assert_array_equal(found[0, 0], [[0, 1, 2, 3], [12, 13, 14, 15]])
  np.testing.assert_array_equal(found[1, 2, 0], [0, 1, 2, 3])
  np.testing.assert_array_equal(found[0, 1:], x[0, 1:])
  nothing = np.asarray(mixed("cutout", M, x[..., None], 7))[..., 0]
  assert (nothing[0, 0, 1] == 7).all() and (nothing != x).sum() == 7  # one of them was 7


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_masks(kind):
  labels = jnp.asarray(np.random.default_rng(0).integers(0, 4, (2, 3, 8, 6)), jnp.uint8)
  u = np.random.default_rng(1).random((2, 3, 4)).astype(np.float32)
  M = np.asarray(masks(kind, labels, jnp.asarray(u[0, :, :3]), jnp.asarray(u)))
  assert M.shape == labels.shape
  expected = {
    "none": np.zeros(labels.shape, bool),
    "classmix": ~np.asarray(class_masks(labels, jnp.asarray(u))),
  }.get(kind, np.stack([half_boxes(jnp.asarray(u[0, :, :3]), 8, 6)] * 2))
  np.testing.assert_array_equal(M, expected)


def test_an_unknown_kind_is_refused():
  with pytest.raises(ValueError, match="'mixup': none, cutout, cutmix, classmix"):
    masks("mixup", jnp.zeros((1, 1, 4, 4), jnp.uint8), jnp.zeros((1, 3)), jnp.zeros((1, 1, 2)))
