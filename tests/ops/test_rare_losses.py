"""Losses for rare classes against closed forms and plain numpy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.labels import IGNORE
from semiseg_jax.ops import class_weights, losses, region_losses

SURE = 60.0  # a logit beside zeros: its class has the probability 1 in float32
dice, lovasz_softmax = (
  jax.jit(f, static_argnames="group") for f in (region_losses.dice, region_losses.lovasz_softmax)
)
focal = jax.jit(losses.focal, static_argnames=("gamma", "weights", "group"))
LOSSES = {
  "focal": functools.partial(focal, gamma=2.0),
  "dice": dice,
  "lovasz": lovasz_softmax,
}


def of_probabilities(p):
  """Logits [1,1,1,n,C] of probabilities [n,C]."""
  return jnp.log(jnp.asarray(p, jnp.float32))[None, None, None]


def of_labels(*y):
  return jnp.asarray(y, jnp.uint8)[None, None, None]


def noise(n=2, b=4, c=4, seed=0, classes=3):
  """Logits, and labels with ignored pixels; the last class has no pixel."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, classes, (b, 5, 6))
  labels[rng.random(labels.shape) < 0.2] = IGNORE
  logits = rng.normal(0, 2, (n, b, 5, 6, c)).astype(np.float32)
  return jnp.asarray(logits), jnp.broadcast_to(jnp.asarray(labels, jnp.uint8), (n, b, 5, 6))


def softmax(logits):
  e = np.exp(logits - logits.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def iou(truth, predicted, c):
  return ((truth == c) & (predicted == c)).sum() / ((truth == c) | (predicted == c)).sum()


def test_focal_of_two_pixels():
  P, y = of_probabilities([[0.9, 0.1], [0.4, 0.6]]), of_labels(0, 0)
  loss, count = focal(P, y, gamma=2.0)
  expected = (0.01 * -np.log(0.9) + 0.36 * -np.log(0.4)) / 2
  np.testing.assert_allclose(loss, [expected], rtol=1e-5)
  assert count.tolist() == [2]
  loss, _ = focal(P, of_labels(0, 1), gamma=0.5, weights=(3.0, 0.5))
  expected = (3 * 0.1**0.5 * -np.log(0.9) + 0.5 * 0.4**0.5 * -np.log(0.6)) / 2
  np.testing.assert_allclose(loss, [expected], rtol=1e-5)


def test_focal_without_gamma_is_the_cross_entropy():
  P, y = noise()
  for a, b in zip(focal(P, y, gamma=0.0, group=2), losses.cross_entropy(P, y, group=2)):
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_dice_of_three_pixels():
  P, y = of_probabilities([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]), of_labels(0, 0, 1)
  first, second = 2 * 1.4 / (1.7 + 2), 2 * 0.7 / (1.3 + 1)
  loss, count = dice(P, y)
  np.testing.assert_allclose(loss, [1 - (first + second) / 2], rtol=1e-6)
  assert count.tolist() == [3]


def test_lovasz_of_three_pixels():
  """Of class 0 the errors are .7 (of class 1), .4, .2: IoU losses 1/3, 2/3, 1 as they join."""
  P, y = of_probabilities([[0.8, 0.2], [0.6, 0.4], [0.7, 0.3]]), of_labels(0, 0, 1)
  first = 0.7 * 1 / 3 + 0.4 * 1 / 3 + 0.2 * 1 / 3
  second = 0.7 * 1 + 0.4 * 0 + 0.2 * 0  # with its one pixel wrong the IoU is 0 already
  loss, count = lovasz_softmax(P, y)
  np.testing.assert_allclose(loss, [(first + second) / 2], rtol=1e-5)
  assert count.tolist() == [3]


def test_lovasz_of_hard_predictions_is_what_the_iou_lacks():
  rng = np.random.default_rng(3)
  labels, predicted = (rng.integers(0, 3, (2, 5, 7)) for _ in range(2))
  labels[0, :2] = IGNORE
  P = SURE * jax.nn.one_hot(predicted, 4)[None]
  seen = labels != IGNORE
  lacks = [1 - iou(labels[seen], predicted[seen], c) for c in range(3)]
  loss, _ = lovasz_softmax(P, jnp.asarray(labels, jnp.uint8)[None])
  np.testing.assert_allclose(loss, [np.mean(lacks)], rtol=1e-5)


@pytest.mark.parametrize("group", [0, 1, 2])
def test_dice_is_that_of_plain_loops(group):
  P, y = noise()
  p, k, total = softmax(np.asarray(P, np.float64)), group or 4, np.zeros(2)
  for n in range(2):
    for start in range(0, 4, k):
      q, z = p[n, start : start + k], np.asarray(y[n, start : start + k])
      overlaps = []
      for c in range(3):
        of_c, valid = z == c, z != IGNORE
        overlaps.append(2 * q[of_c][:, c].sum() / (q[valid][:, c].sum() + of_c.sum()))
      total[n] += (1 - np.mean(overlaps)) / (4 // k)
  np.testing.assert_allclose(dice(P, y, group=group)[0], total, rtol=1e-5)


@pytest.mark.parametrize("group", [0, 1, 2])
def test_lovasz_is_that_of_plain_loops(group):
  """The extension as its definition has it: pixels join in the order of their errors."""
  P, y = noise()
  p, k, total = softmax(np.asarray(P, np.float64)), group or 4, np.zeros(2)
  for n in range(2):
    for start in range(0, 4, k):
      z = np.asarray(y[n, start : start + k])
      q, z = p[n, start : start + k][z != IGNORE], z[z != IGNORE]
      for c in range(3):
        errors = np.where(z == c, 1 - q[:, c], q[:, c])
        wrong, before, value = np.zeros(len(z), bool), 0.0, 0.0
        for i in np.argsort(-errors):
          wrong[i] = True
          predicted = (z == c) ^ wrong
          now = 1 - ((z == c) & predicted).sum() / ((z == c) | predicted).sum()
          value, before = value + errors[i] * (now - before), now
        total[n] += value / 3 / (4 // k)
  found, _ = lovasz_softmax(P, y, group=group)
  np.testing.assert_allclose(found, total, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_change_nothing_and_learn_nothing(name):
  P, y = noise()
  both = jax.jit(jax.value_and_grad(lambda P: LOSSES[name](P, y)[0].sum()))
  loss, gradient = both(P)
  ignored = np.asarray(y) == IGNORE
  assert not np.asarray(gradient)[ignored].any() and np.asarray(gradient)[~ignored].any()
  other = jnp.where(ignored[..., None], P[..., ::-1] * 3 + 1, P)
  assert both(other)[0] == loss
  assert LOSSES[name](P, y)[1].tolist() == (~ignored).sum((1, 2, 3)).tolist()


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_whatever_is_absent_ignored_or_sure(name):
  P, y = noise(b=2)
  labels = [y, jnp.full_like(y, IGNORE), jnp.zeros_like(y), y.at[:, 0].set(IGNORE)]
  logits = [P, 0 * P, SURE * P, SURE * jax.nn.one_hot(y, P.shape[-1])]
  both = jax.jit(jax.value_and_grad(lambda P, y: LOSSES[name](P, y, group=1)[0].sum()))
  for P, y in itertools.product(logits, labels):
    loss, gradient = both(P, y)
    assert np.isfinite(loss) and np.isfinite(gradient).all()
  assert float(both(P, labels[1])[0]) == 0


def test_a_sure_pixel_of_a_small_gamma_has_no_infinite_slope():
  P, y = SURE * jax.nn.one_hot(jnp.zeros((1, 1, 1, 3), int), 2), of_labels(0, 0, 0)
  gradient = jax.jit(jax.grad(lambda P: focal(P, y, gamma=0.5)[0].sum()))(P)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["dice", "lovasz"])
def test_a_rare_class_weighs_as_much_as_a_common_one(name):
  """A wrong pixel of 1 costs more than one of 99; of the cross entropy both cost the same."""
  y = jnp.zeros((1, 1, 10, 10), jnp.uint8).at[..., 0, 0].set(1)
  right = SURE * jax.nn.one_hot(y, 2)
  wrong = lambda at: right.at[:, :, at, at].set(right[:, :, at, at, ::-1])
  loss = lambda P: float(LOSSES[name](P, y)[0][0])
  assert loss(right) == pytest.approx(0, abs=1e-6)
  assert loss(wrong(0)) > 0.5 > loss(wrong(5)) > 0


@pytest.mark.parametrize(
  "kind, parts",
  [
    ("dice", ("dice",)),
    ("ce+dice", ("ce", "dice")),
    ("ce+lovasz", ("ce", "lovasz")),
    ("focal+dice", ("focal", "dice")),
  ],
)
def test_kinds_of_several_parts_are_their_sums(kind, parts):
  P, y = noise()
  weights, one_of = (1.0, 2.0, 0.5, 3.0), {**LOSSES}
  one_of["ce"] = lambda P, y: losses.weighted_cross_entropy(P, y[0], weights)
  one_of["focal"] = lambda P, y: focal(P, y, gamma=1.5, weights=weights)
  found, count = losses.supervised_loss(
    P,
    y[0],
    kind=kind,
    group=0,
    ohem_threshold=0.7,
    ohem_kept_fraction=0.1,
    weights=weights,
    gamma=1.5,
  )
  np.testing.assert_allclose(found, sum(one_of[part](P, y)[0] for part in parts), rtol=1e-6)
  assert count.tolist() == [int((np.asarray(y[0]) != IGNORE).sum())] * 2


def test_weights_of_classes_in_mined_pixels():
  P, y = of_probabilities([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), of_labels(0, 0, 1)
  loss, count = losses.supervised_loss(
    P, y[0], kind="ohem", group=0, ohem_threshold=0.85, ohem_kept_fraction=0.3, weights=(1.0, 3.0)
  )
  np.testing.assert_allclose(loss, [(-np.log(0.4) - 3 * np.log(0.8)) / 4], rtol=1e-5)
  assert count.tolist() == [2]


PIXELS = np.array([[60, 40, 0, 0], [30, 0, 10, 0]])  # the last class is in no picture


@pytest.mark.parametrize(
  "rule, expected",
  [
    # N = 140 over 3 classes; N_c = 90, 40, 10.
    ("inverse", [140 / 270, 140 / 120, 140 / 30, 0]),
    # f = 90/140, 40/100, 10/40; the median is 0.4.
    ("median_frequency", [0.4 / (90 / 140), 1, 0.4 / 0.25, 0]),
    ("enet", [1 / np.log(1.02 + n / 140) for n in (90, 40, 10)] + [0]),
  ],
)
def test_weights_by_rules(rule, expected):
  np.testing.assert_allclose(class_weights.weights(rule, PIXELS, 0.9), expected, rtol=1e-12)


def test_weights_by_effective_numbers():
  found = class_weights.weights("effective_number", PIXELS, 0.9)
  raw = np.array([0.1 / (1 - 0.9**n) for n in (90, 40, 10)])
  np.testing.assert_allclose(found, [*raw * 3 / raw.sum(), 0], rtol=1e-12)
  assert class_weights.weights("effective_number", PIXELS, 0.0) == (1, 1, 1, 0)
  inverse = np.array([1 / 90, 1 / 40, 1 / 10])
  nearly = class_weights.weights("effective_number", PIXELS, 1 - 1e-9)[:3]
  np.testing.assert_allclose(nearly, inverse * 3 / inverse.sum(), rtol=1e-5)


@pytest.mark.parametrize("rule", class_weights.RULES)
def test_pictures_without_a_label_give_no_weight(rule):
  assert class_weights.weights(rule, np.zeros((2, 3)), 0.9) == (0, 0, 0)
