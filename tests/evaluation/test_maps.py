"""Maps of scores against scipy and numpy, in windows that overlap."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance
from scipy.special import softmax

from semiseg_jax.evaluation import maps
from semiseg_jax.evaluation.low_sums import Low
from semiseg_jax.evaluation.maps import Maps, Wanted
from semiseg_jax.evaluation.placing import plan
from semiseg_jax.evaluation.windows import Segmenter

K, SIZE, WINDOW, STRIDE = 3, (7, 9), (4, 6), (3, 3)
ALL = Wanted(confidence=True, doubt=True, disagreement=True, probabilities=True, top=2)


def _probabilities(images):
  """Of two networks, [B,h,w,2,K]; each window sees another picture, which its corner says."""
  x = images.astype(np.float64) / 255
  shift = x[:, :1, :1, :1]
  logits = np.stack([5 * x + shift, 4 * x[..., ::-1] - shift], -2)
  return softmax(logits, -1)


def _forward(images, valid):
  p = _probabilities(images)
  logits = np.log(p[..., 0, :]) + 2.0
  return jnp.asarray(np.concatenate([logits, p[..., 0, :], p[..., 1, :]], -1), jnp.float32)


def _made(wanted, own, gate=None, image=None):
  segment = Segmenter(
    _forward,
    window=WINDOW,
    stride=STRIDE,
    num_classes=3 * K,
    classify=maps.classify(wanted, K, own),
    gate=gate,
    low=Low(None, None),  # which is for labels alone
  )
  return next(segment.segment_many([image]))


@pytest.fixture(scope="module")
def image():
  return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def expected(image):
  """Mean probabilities of both networks over the windows, [H,W,2,K], and mean logits of one."""
  total, logits, count = np.zeros((*SIZE, 2, K)), np.zeros((*SIZE, K)), np.zeros(SIZE)
  for y, x in plan(SIZE, WINDOW, STRIDE):
    part = np.s_[y : y + WINDOW[0], x : x + WINDOW[1]]
    p = _probabilities(image[part][None])[0]
    total[part] += p
    logits[part] += np.log(p[..., 0, :])
    count[part] += 1
  assert count.max() > 1
  return total / count[..., None, None], logits


@pytest.mark.parametrize("own", [(0,), (1,), (0, 1)])
def test_maps_are_what_numpy_makes_of_the_windows(image, expected, own):
  p, logits = expected
  found = _made(ALL, own, image=image)
  mine = p[..., own, :].mean(-2)
  np.testing.assert_array_equal(found.labels, logits.argmax(-1))
  of_label = np.take_along_axis(mine, logits.argmax(-1)[..., None], -1)[..., 0]
  assert np.abs(found.confidence - 255 * of_label).max() <= 0.5 + 1e-3
  np.testing.assert_allclose(found.doubt, 1 - of_label, rtol=2e-3)
  np.testing.assert_allclose(found.probabilities, mine, atol=5e-4)
  assert found.probabilities.dtype == np.float16
  np.testing.assert_array_equal(found.top_classes, np.argsort(-mine, -1)[..., :2])
  assert np.abs(found.top_probabilities - 255 * -np.sort(-mine, -1)[..., :2]).max() <= 0.5 + 1e-3
  js = distance.jensenshannon(p[..., 0, :], p[..., 1, :], base=2, axis=-1) ** 2
  assert np.abs(found.disagreement - 255 * js).max() <= 0.5 + 1e-2 and js.max() > 0.2


def test_networks_that_say_the_same_do_not_disagree_and_sure_ones_may_wholly():
  sure = np.eye(3)
  p = jnp.asarray(np.stack([[sure[0], sure[0], sure[0]], [sure[0], sure[1], sure[2]]]))
  np.testing.assert_allclose(maps.divergence(p), [0, 1], atol=1e-6)


def test_a_gate_takes_classes_away_but_adds_no_confidence(image, expected):
  gate = lambda _: jnp.array([True, False, True])
  gate.rule = "softmax_zero"
  found, (p, logits) = _made(ALL, (0,), gate, image), expected
  kept = np.array([0, 2])
  label = kept[logits[..., kept].argmax(-1)]
  np.testing.assert_array_equal(found.labels, label)
  of_label = np.take_along_axis(p[..., 0, :], label[..., None], -1)[..., 0]
  assert np.abs(found.confidence - 255 * of_label).max() <= 0.5 + 1e-3
  assert not found.probabilities[..., 1].any()
  np.testing.assert_allclose(found.probabilities.astype(float).sum(-1), 1, atol=2e-3)


def test_pixels_without_data_say_nothing():
  said = Maps(
    np.ones((1, 2), np.uint8),
    confidence=np.full((1, 2), 9, np.uint8),
    probabilities=np.ones((1, 2, 3), np.float16),
    top_classes=np.ones((1, 2, 2), np.uint8),
  ).without(np.array([[True, False]]))
  assert said.labels.tolist() == [[255, 1]] and said.confidence.tolist() == [[0, 9]]
  assert said.probabilities[0, :, 0].tolist() == [0, 1] and said.probabilities.dtype == np.float16
  assert said.top_classes[0].tolist() == [[255, 255], [1, 1]] and said.disagreement is None
