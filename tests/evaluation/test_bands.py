"""Pictures that do not fit into memory as a whole: bands of scores, one picture at a time."""

import time
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.errors import NonFiniteError
from semiseg_jax.evaluation import bands, confusion, host_sums, pictures, placing, run, windows
from tests.evaluation.test_windows import position_forward

K = 5


def _whole_canvas(forward, image, window, stride):
  """Sums [H,W,K] on a canvas of the whole picture, window after window, in float32."""
  total = np.zeros((*image.shape[:2], K), np.float32)
  valid = np.array([[0, 0, *window]], np.int32)
  for y, x in placing.plan(image.shape[:2], window, stride):
    part = slice(y, y + window[0]), slice(x, x + window[1])
    total[part] += np.asarray(forward(image[part][None], valid))[0]
  return total


@pytest.mark.parametrize("stride", [(16, 24), (11, 16), (1, 7), (9, 24)])
@pytest.mark.parametrize("batch, most", [(1, 0), (4, 0), (4, 1 << 28)])
def test_sums_are_those_of_a_whole_canvas_bit_for_bit(stride, batch, most, monkeypatch):
  monkeypatch.setattr(bands, "_CANVAS_BYTES", most)
  forward = position_forward(K)
  shown = [np.random.default_rng(i).integers(0, 256, (h, w, 3), np.uint8)
           for i, (h, w) in enumerate([(50, 61), (16, 90), (33, 24), (47, 25)])]  # fmt: skip
  segment = windows.Segmenter(forward, window=(16, 24), stride=stride, batch=batch, num_classes=K)
  segment._classify = lambda scores, kept, rule: (scores.copy(), jnp.isfinite(scores).all())
  for image, sums in zip(shown, segment.segment_many(shown), strict=True):
    np.testing.assert_array_equal(sums, _whole_canvas(forward, image, (16, 24), stride))


def test_the_device_holds_a_band_of_a_tall_picture(monkeypatch):
  monkeypatch.setattr(bands, "_CANVAS_BYTES", 1 << 16)
  most = []

  def forward(images, valid):
    sums = [array.nbytes for array in jax.live_arrays() if array.shape[2:] == (64,)]
    most.append(max(sums, default=0))
    return jnp.zeros((*images.shape[:3], 64))

  segment = windows.Segmenter(forward, window=(8, 16), batch=2, num_classes=64)
  assert segment(np.zeros((400, 30, 3), np.uint8)).shape == (400, 30)
  assert max(most) == 8 * 30 * 64 * 4


def test_scores_that_are_not_finite_in_one_band_stop(monkeypatch):
  monkeypatch.setattr(bands, "_CANVAS_BYTES", 0)

  def forward(images, valid):
    return jnp.where(jnp.asarray(images).max() == 255, jnp.nan, jnp.zeros((*images.shape[:3], 2)))

  image = np.zeros((90, 9, 3), np.uint8)
  image[3, 3] = 255
  segment = windows.Segmenter(forward, window=(8, 8), num_classes=2)
  with pytest.raises(NonFiniteError, match="picture number 1 are not finite"):
    list(segment.segment_many([np.zeros((4, 4, 3), np.uint8), image]))


def test_of_large_pictures_one_is_held_at_a_time(monkeypatch):
  for module in (windows, run):
    monkeypatch.setattr(module, "LARGE", 100)
  alive = []

  def read(number):
    time.sleep(0.01)  # one that reads ahead would do so now
    assert not [ref for ref in alive if ref() is not None], f"beside picture {number}"
    image = np.full((11, 10, 3), number, np.uint8)
    alive.append(weakref.ref(image))
    return image

  segment = windows.Segmenter(position_forward(2), window=(8, 8), batch=3, num_classes=2)
  seen = run.read_ahead(read, range(4), [(11, 10)] * 4)
  assert sum(label.shape == (11, 10) for label in segment.segment_many(seen)) == 4


class _Token:
  """Stands for a scalar that is ready when windows were added."""

  waited = 0

  def block_until_ready(self):
    _Token.waited += 1


def test_few_calls_of_the_network_are_ahead(monkeypatch):
  monkeypatch.setattr(host_sums.HostSums, "add", lambda *_: _Token())
  segment = windows.Segmenter(position_forward(2), window=(8, 8), stride=8, num_classes=2)
  segment(np.zeros((8, 80, 3), np.uint8))
  assert _Token.waited == 10 - windows._CALLS_AHEAD


def test_large_pictures_are_counted_in_parts(monkeypatch):
  monkeypatch.setattr(confusion, "_LARGEST_LENGTH", 1 << 10)
  rng = np.random.default_rng(0)
  label, found = rng.integers(0, 4, (2, 67, 71)).astype(np.uint8)
  label[3] = 255
  expected = np.zeros((4, 4), np.int64)
  np.add.at(expected, (label[label < 4], found[label < 4]), 1)
  np.testing.assert_array_equal(confusion.count_picture(label, found, 4), expected)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_sheet_shows_the_same_of_a_reduced_row(channels):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (211, 700, channels), np.uint8)
  truth, found = rng.integers(0, 3, (2, 211, 700)).astype(np.uint8)
  row = pictures.Shown("a", image, truth, found)
  about = ("x", "y", "z"), ((9, 9, 9), (1, 2, 3), (4, 5, 6))
  small = pictures.reduced(row)
  assert small.prediction.shape[1] < 700
  np.testing.assert_array_equal(pictures.sheet([small], *about), pictures.sheet([row], *about))
