"""Maps of overlapping crops meet where they show the same place of the picture."""

import jax
import numpy as np
import pytest

from semiseg_jax.data.augment.crops import Rules
from semiseg_jax.data.augment.families import FAMILIES
from semiseg_jax.data.augment.pairs import random_pair
from semiseg_jax.data.records import Example
from semiseg_jax.ops.overlap import matched
from tests.ops import directional_loops

CROP = 64


@pytest.fixture(scope="module")
def crops():
  """Labels of pairs of real crops: the number of the place in the picture, 255 on padding."""
  rules = Rules(FAMILIES["cac"], (CROP, CROP), (0.5, 2.0), 0.5, base_size=100)
  picture = Example("p", np.zeros((90, 120, 3), np.uint8), np.zeros((90, 120), np.uint8))
  rng = np.random.default_rng(0)
  pairs = [random_pair(picture, rng, rules=rules) for _ in range(60)]
  geometry = np.stack([pair["geometry"] for pair in pairs])
  assert (geometry[:, 4:].sum(0) > 0).all() and (geometry[:, 2] < CROP).any()
  assert (geometry[:, :2] < 0).any() and (geometry[:, :2] > 0).any()
  return geometry


def _places(geometry, stride):
  """Where in the picture, on the grid of the first crop, each of both maps' pixels is [B,n,n,2]."""
  n = CROP // stride
  at = np.stack(np.meshgrid(np.arange(n), np.arange(n), indexing="ij"), -1)
  first = np.broadcast_to(at, (len(geometry), *at.shape)).copy()
  second = first + geometry[:, None, None, :2] // stride
  for maps, flips in ((first, geometry[:, 4]), (second, geometry[:, 5])):
    maps[flips > 0] = maps[flips > 0][:, :, ::-1]
  return first, second


@pytest.mark.parametrize("stride", [8, 4])
def test_matched_pixels_are_of_one_place_and_all_of_them(crops, stride):
  first, second = _places(crops, stride)
  run = jax.jit(matched, static_argnums=3)
  one, two, overlap = map(np.asarray, run(first, second, crops, stride))
  np.testing.assert_array_equal(one[overlap], two[overlap])
  found = np.zeros_like(overlap)
  for b, (r, c), _ in directional_loops.pairs(crops, overlap.shape[1:], stride):
    found[b, r, overlap.shape[2] - 1 - c if crops[b, 4] else c] = True
  np.testing.assert_array_equal(overlap, found)
  # None of it is padding, and the first maps are where they were.
  assert (one[overlap] < np.repeat(crops[:, 2:4], overlap.sum((1, 2)), 0) // stride).all()
  n = CROP // stride
  np.testing.assert_array_equal(one[:, :, :, 1], np.broadcast_to(np.arange(n), one.shape[:3]))


def test_any_maps_are_matched_together(crops):
  first, second = _places(crops, 8)
  one, two, overlap = matched((first, first[..., 0]), (second, second[..., 0]), crops, 8)
  np.testing.assert_array_equal(one[0][..., 0], one[1])
  np.testing.assert_array_equal(np.asarray(two[0][..., 0])[overlap], np.asarray(two[1])[overlap])
