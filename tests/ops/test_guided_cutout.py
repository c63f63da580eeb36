"""Guided cutout against the released code; regions against a flood fill."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops import guided_cutout, perturbations
from semiseg_jax.ops.resize import resize_nearest
from tests.golden_files import golden
from tests.ops.regions import flooded


@pytest.fixture(scope="module")
def g():
  return golden("cct_perturbations")


def _mask(g):
  return np.asarray(perturbations.foreground(jnp.moveaxis(jnp.asarray(g["pred"]), 1, -1), (0,)))


def _stored(g):
  """(boxes, used, u) of the contours that are cut, by picture, in order."""
  pictures = [[] for _ in g["pred"]]
  for sample, vertices, x0, x1, y0, y1 in g["cutout_contours"].tolist():
    if vertices > guided_cutout.VERTICES:
      pictures[sample].append((y0, x0, y1, x1))
  most = max(map(len, pictures)) + 1  # a place more: one that is not used
  boxes, used = np.zeros((len(pictures), most, 4), np.int32), np.zeros((len(pictures), most), bool)
  u, draws = np.full((len(pictures), most, 2), 0.5), g["cutout_draws"].tolist()
  for k, found in enumerate(pictures):
    for i, box in enumerate(found):
      boxes[k, i], used[k, i] = box, True
      for axis in (1, 0):  # drawn columns first
        low, high, value = draws.pop(0)
        assert low == 0
        u[k, i, axis] = (value + 0.5) / (high + 1)
  assert not draws
  return jnp.asarray(boxes), jnp.asarray(used), jnp.asarray(u, jnp.float32)


def test_contours_and_their_order(g):
  """OpenCV finds them, the last of a picture first; of how many vertices too."""
  stored = [tuple(row) for row in g["cutout_contours"].tolist()]
  found = [
    (k, vertices, x0, x1, y0, y1)
    for k, M in enumerate(_mask(g))
    for vertices, (y0, x0, y1, x1) in guided_cutout.outlines(M)
  ]
  assert found == stored


def test_the_mask(g):
  boxes, used, u = _stored(g)
  picture, size = g["pred"].shape[2:], g["cutout_mask"].shape[1:]
  keep = lambda boxes, used: guided_cutout.kept(
    (boxes, used), u, share=0.4, picture=picture, size=size
  )
  np.testing.assert_array_equal(keep(boxes, used), g["cutout_mask"] == 1)
  found, has = jax.jit(lambda M: guided_cutout.contours(M, boxes.shape[1]))(jnp.asarray(_mask(g)))
  np.testing.assert_array_equal(has, used)
  np.testing.assert_array_equal(found, boxes)


def test_ragged_contours_alone_count_and_no_more_than_there_are_places():
  """A square of 60 pixels has 4 vertices; a comb of 30 teeth, 1 pixel each, has many."""
  M = np.zeros((1, 64, 128), bool)
  M[0, :60, :60] = M[0, 40, 64:124] = M[0, 50, 64:124] = True
  M[0, 41:45, 64:124:2] = M[0, 51:55, 64:124:2] = True
  for most in (3, 1):
    boxes, used = map(np.asarray, guided_cutout.contours(jnp.asarray(M), most))
    assert used.tolist() == [[True, True, False][:most]]
    combs = {(40, 64, 44, 123), (50, 64, 54, 123)}
    assert {tuple(box.tolist()) for box in boxes[used]} <= combs
    assert len({tuple(box.tolist()) for box in boxes[used]}) == min(most, 2)


def _spiral(side):
  """One region that winds inwards, a cell wide."""
  M, y, x, dy, dx = np.zeros((side, side), bool), 0, -1, 0, 1
  for steps in [side, *(n for k in range(side - 1, 0, -2) for n in (k, k))]:
    for _ in range(steps):
      y, x = y + dy, x + dx
      M[y, x] = True
    dy, dx = dx, -dy
  return M


def _masks():
  rng = np.random.default_rng(0)
  noise = [rng.random((11, 11)) < share for share in (0.15, 0.3, 0.5)]
  return np.stack([*noise, _spiral(11), np.zeros((11, 11), bool), np.ones((11, 11), bool)])


def test_connected_regions_equal_a_flood_fill():
  M = _masks()
  found = np.asarray(jax.jit(guided_cutout.connected)(M))
  for numbers, picture in zip(found, M):
    assert (numbers[~picture] == -1).all()
    for region in flooded(picture):
      assert {numbers[cell] for cell in region} == {max(y * 11 + x for y, x in region)}
  assert len(flooded(M[3])) == 1 and M[3].sum() > 60


def test_boxes_of_regions():
  """In pixels of a picture four times as large and one more row; the largest come first."""
  M, size, most = _masks(), (45, 44), 5
  boxes, used = jax.jit(lambda M: guided_cutout.regions(M, size, most))(M)
  assert boxes.shape == (len(M), most, 4)
  for box, has, picture in zip(np.asarray(boxes), np.asarray(used), M):
    regions = sorted(flooded(picture), key=len, reverse=True)
    assert has.sum() == min(len(regions), most) and (np.diff(has.astype(int)) <= 0).all()
    areas = {}
    for region in regions:
      y, x = np.transpose(list(region))
      corners = (y.min() * 45 // 11, x.min() * 4, (y.max() + 1) * 45 // 11 - 1, x.max() * 4 + 3)
      areas.setdefault(corners, []).append(len(region))
    for found, region in zip(box[has], regions):
      assert len(region) in areas[tuple(found.tolist())]


def test_boxes_are_those_of_full_resolution():
  """Objects of 16x24 pixels on a grid of stride 8, one of them at the border; 21 pixels on 4."""
  M = np.zeros((1, 80, 80), bool)
  M[0, 16:32, 8:32] = M[0, 64:, 72:] = True
  regions = jax.jit(guided_cutout.regions, static_argnums=(1, 2))
  boxes, used = regions(np.asarray(resize_nearest(M, (10, 10))), (80, 80), 3)
  assert boxes[0, :2].tolist() == [[16, 8, 31, 31], [64, 72, 79, 79]]
  assert used.tolist() == [[True, True, False]]
  # Cells of 21 pixels begin at 0, 5, 10, 15.
  boxes, _ = regions(np.eye(4, dtype=bool)[None, :3], (21, 21), 1)
  assert boxes.tolist() == [[[0, 0, 20, 14]]]


def test_something_of_a_small_object_is_erased_half_of_the_time():
  """16 pixels are a box of the length 15: 6 are erased, the first of them one of 0 .. 9.

  Pixels 0 and 8 are read; first ones of 0 and 3 .. 8 reach one, on both sides 7 x 7 of 10 x 10.
  """
  M, n = np.zeros((1, 40, 40), bool), 10
  M[0, 10:12, 15:17] = True
  draws = np.float32(np.arange(n) + 0.5) / n
  u = np.stack(np.meshgrid(draws, draws, indexing="ij"), -1).reshape(-1, 1, 2)

  @jax.jit
  def run(M):
    boxes = (jnp.repeat(x, n * n, 0) for x in guided_cutout.regions(M, (320, 320), 1))
    return guided_cutout.kept(tuple(boxes), u, share=0.4, picture=(320, 320), size=(40, 40))

  assert (~np.asarray(run(M))).any((1, 2)).sum() == n * n * 49 // 100


def test_what_is_kept_by_hand():
  """A box of 11x6 pixels loses 4x2 of them; a draw just below 1 takes the last place."""
  boxes = jnp.array([[[2, 3, 12, 8], [0, 0, 20, 20]]]), jnp.array([[True, False]])
  for u, first in ((0.0, (2, 3)), (np.nextafter(np.float32(1), 0), (8, 6))):
    keep = guided_cutout.kept(
      boxes, jnp.full((1, 2, 2), u), share=0.4, picture=(20, 21), size=(20, 21)
    )
    expected = np.ones((1, 20, 21), bool)
    expected[0, first[0] : first[0] + 4, first[1] : first[1] + 2] = False
    np.testing.assert_array_equal(keep, expected)
