"""CPS against loops in numpy: the loss, whose statistics move when, what gets a pseudo label."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract, cps
from semiseg_jax.ops.losses import cross_pseudo_pool
from tests import small_network
from tests.methods import given_masks
from tests.small_network import batch, copy, forward, normalized, upsampled, variables

CLASSES, SIZE, ROWS = 4, (8, 6), 3
PLAIN = ("labeled", "unlabeled")
MIXED = ("labeled", "unlabeled", "unlabeled_mix")


def _config(**changes):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.method.weight = 1.7
  for key, value in changes.items():
    c.method[key] = value
  return c


def _method(**changes):
  return small_network.method(_config(**changes), classes=CLASSES)


def _loss(method):
  @jax.jit
  def run(params, stats, batch, t):
    return method.loss(params, stats, {}, batch, jax.random.key(0), t, frozenset())

  return run


@pytest.fixture(autouse=True)
def masks_of_the_batch(monkeypatch):
  given_masks.use(monkeypatch)


def _mixed_batch(valid=None):
  b = batch(MIXED, valid=valid)
  b["unlabeled"]["mask"] = _masks()
  return b


def _masks(seed=3):
  return np.random.default_rng(seed).random((ROWS, *SIZE)) < 0.4


def _ce(logits, labels):
  """Sum of -log softmax(logits)[label] over labels that are not 255, and their number."""
  z = logits - logits.max(-1, keepdims=True)
  log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
  used = labels != 255
  picked = np.take_along_axis(log_p, np.where(used, labels, 0)[..., None].astype(int), -1)[..., 0]
  return -(picked * used).sum(), used.sum()


def _mean_ce(pairs):
  sums, counts = zip(*(_ce(P, Y) for P, Y in pairs))
  return sum(sums) / sum(counts)


def _cps(logits, pseudo):
  """1/(N-1) sum_k sum_{j != k} CE(P_k, Y_j); lists over the networks of lists over the pools."""
  n = len(logits)
  return sum(_mean_ce(zip(logits[k], pseudo[j])) for k in range(n) for j in range(n) if j != k) / (
    n - 1
  )


class _Reference:
  """The passes of all networks in float64, in the order they are asked for."""

  def __init__(self, params, stats):
    stacked = params["networks"], stats["networks"]
    self.n = jax.tree.leaves(stacked[0])[0].shape[0]
    self.params, self.stats = ([copy(tree, k) for k in range(self.n)] for tree in stacked)

  def __call__(self, images, bn="train"):
    found = []
    for k in range(self.n):
      logits, self.stats[k] = forward(self.params[k], self.stats[k], images, bn)
      found.append(upsampled(logits, SIZE))
    return found

  def stacked_stats(self):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *self.stats)


def _plain(reference, b, outside=None):
  """Total, CPS term, pseudo labels [N][stream] of the method without CutMix."""
  P = [list(each) for each in zip(*(reference(normalized(b[s])) for s in PLAIN))]
  Y = [[x.argmax(-1) for x in row] for row in P]
  if outside is not None:
    Y = [[np.where(outside, 255, y) for y in row] for row in Y]
  supervised = sum(_mean_ce([(row[0], b["labeled"]["label"])]) for row in P)
  return supervised, _cps(P, Y), Y


def _cutmix(reference, b, bn="train", outside=None, order=("mix", "labeled")):
  M = b["unlabeled"]["mask"]
  A, B = normalized(b["unlabeled"]), normalized(b["unlabeled_mix"])
  P_A, P_B = reference(A, bn), reference(B, bn)
  Y = [
    np.where(M[..., None], p_b, p_a).argmax(-1) for p_a, p_b in zip(P_A, P_B)
  ]  # of the mixed logits, as published
  if outside is not None:
    Y = [np.where(outside, 255, y) for y in Y]
  images = {"mix": np.where(M[..., None], B, A), "labeled": normalized(b["labeled"])}
  P = {name: reference(images[name]) for name in order}
  supervised = sum(_mean_ce([(p, b["labeled"]["label"])]) for p in P["labeled"])
  return supervised, _cps([[p] for p in P["mix"]], [[y] for y in Y]), Y


def _check(found, supervised, term, weight=1.7):
  total, out = found
  value = lambda name: float(out.metrics[name][0] / out.metrics[name][1])
  np.testing.assert_allclose(value("cps"), term, rtol=1e-4)
  np.testing.assert_allclose(value("cps_weighted"), weight * term, rtol=1e-4)
  np.testing.assert_allclose(total, supervised + weight * term, rtol=1e-4)


@pytest.mark.parametrize("n", [2, 3])
def test_the_loss_of_n_networks_and_the_order_of_the_statistics(n):
  method = _method(networks=n)
  params, stats = variables(method)
  b = batch(PLAIN)
  b["labeled"]["label"][0, :3] = 255
  found = _loss(method)(params, stats, b, 0)
  reference = _Reference(params, stats)
  supervised, term, Y = _plain(reference, b)
  assert np.mean(Y[0][1] != Y[1][1]) > 0.1, "the networks must disagree for this to test anything"
  _check(found, supervised, term)
  moved = found[1].stats["networks"]
  small_network.close(moved, reference.stacked_stats(), rtol=1e-4, atol=1e-5)
  swapped = _Reference(params, stats)
  for name in reversed(PLAIN):
    swapped(normalized(b[name]))
  assert not _near(moved, swapped.stacked_stats())


def _near(a, b):
  return all(np.allclose(*pair, rtol=1e-3) for pair in zip(*map(jax.tree.leaves, (a, b))))


def test_cutmix_passes_a_b_mix_labeled():
  method = _method(networks=2, cutmix=True)
  params, stats = variables(method)
  b = _mixed_batch()
  found = _loss(method)(params, stats, b, 0)
  reference = _Reference(params, stats)
  supervised, term, Y = _cutmix(reference, b)
  assert np.mean(Y[0] != Y[1]) > 0.1
  _check(found, supervised, term)
  moved = found[1].stats["networks"]
  small_network.close(moved, reference.stacked_stats(), rtol=1e-4, atol=1e-5)
  x = {"A": normalized(b["unlabeled"]), "B": normalized(b["unlabeled_mix"])}
  x["mix"] = np.where(b["unlabeled"]["mask"][..., None], x["B"], x["A"])
  x["labeled"] = normalized(b["labeled"])
  for order in itertools.permutations(x):
    other = _Reference(params, stats)
    for name in order:
      other(x[name])
    assert _near(moved, other.stacked_stats()) == (order == ("A", "B", "mix", "labeled")), order


@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_pseudo_label_bn_leaves_the_statistics_to_the_student(bn):
  method = _method(networks=2, cutmix=True, pseudo_label_bn=bn)
  params, stats = variables(method)
  b = _mixed_batch()
  found = _loss(method)(params, stats, b, 0)
  reference = _Reference(params, stats)
  supervised, term, Y = _cutmix(reference, b, bn=bn)
  _check(found, supervised, term)
  small_network.close(found[1].stats["networks"], reference.stacked_stats(), rtol=1e-4, atol=1e-5)
  _, other, _ = _cutmix(_Reference(params, stats), b, bn="train" if bn == "eval" else "eval")
  assert abs(other / term - 1) > 1e-3


@pytest.mark.parametrize("cutmix", [False, True])
@pytest.mark.parametrize("compat", [(), ("pseudo_label_padding",)])
def test_padding_gets_a_pseudo_label_only_on_request(cutmix, compat):
  method = _method(networks=2, cutmix=cutmix, compat=compat)
  params, stats = variables(method)
  y0, x0, y1, x1 = valid = (1, 0, 7, 4)
  b = _mixed_batch(valid) if cutmix else batch(PLAIN, valid=valid)
  found = _loss(method)(params, stats, b, 0)
  inside = np.zeros(SIZE, bool)
  inside[y0:y1, x0:x1] = True
  outside = None if compat else ~inside
  run = _cutmix if cutmix else _plain
  supervised, term, _ = run(_Reference(params, stats), b, outside=outside)
  _check(found, supervised, term)
  kept = found[1].metrics["pseudo/kept"]
  assert kept[0] / kept[1] == (1 if compat else inside.mean())


def _directional(value, params, direction, eps=1e-6):
  moved = lambda sign: {
    "networks": jax.tree.map(
      lambda p, d: np.float64(p) + sign * eps * d, params["networks"], direction["networks"]
    )
  }
  return (value(moved(1)) - value(moved(-1))) / (2 * eps)


@pytest.mark.parametrize("cutmix", [False, True])
def test_the_gradient_is_that_of_the_loss_with_the_pseudo_labels_fixed(cutmix):
  """Against finite differences of the float64 loss in which Y does not move."""
  method = _method(networks=2, cutmix=cutmix)
  params, stats = variables(method)
  b = _mixed_batch() if cutmix else batch(PLAIN)
  run = _loss(method)
  gradient = jax.jit(jax.grad(lambda p: run(p, stats, b, 0)[0]))(params)
  fixed = (_cutmix if cutmix else _plain)(_Reference(params, stats), b)[2]

  def value(moved):
    reference = _Reference(moved, stats)
    if cutmix:
      x_A, x_B = normalized(b["unlabeled"]), normalized(b["unlabeled_mix"])
      P = [[p] for p in reference(np.where(b["unlabeled"]["mask"][..., None], x_B, x_A))]
      P_l, Y = reference(normalized(b["labeled"])), [[y] for y in fixed]
    else:
      P = [list(each) for each in zip(*(reference(normalized(b[s])) for s in PLAIN))]
      P_l, Y = [row[0] for row in P], fixed
    return sum(_mean_ce([(p, b["labeled"]["label"])]) for p in P_l) + 1.7 * _cps(P, Y)

  rng = np.random.default_rng(5)
  for _ in range(3):
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
    slope = sum(
      (np.asarray(g, np.float64) * d).sum()
      for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction))
    )
    np.testing.assert_allclose(slope, _directional(value, params, direction), rtol=2e-3)


def test_pseudo_labels_carry_no_gradient_between_networks():
  """d CE(P_k, Y_j) / d P_k = (softmax(P_k) - onehot(Y_j)) / pixels, and nothing else."""
  P = np.random.default_rng(0).normal(size=(3, 2, 3, 5, CLASSES)).astype(np.float32)
  term = lambda x: cross_pseudo_pool(x, cps.pseudo_labels(x))[0].sum()
  found = jax.grad(term)(jnp.asarray(P))
  softmax = np.exp(P) / np.exp(P).sum(-1, keepdims=True)
  onehot = np.eye(CLASSES)[P.argmax(-1)]
  expected = 2 * softmax - (onehot.sum(0) - onehot)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_ties_go_to_the_first_class():
  labels = cps.pseudo_labels(jnp.zeros((2, 1, 2, 2, CLASSES)))
  assert labels.dtype == jnp.uint8 and (labels == 0).all()


@pytest.mark.parametrize("ramp, weights", [(0, (1.7, 1.7, 1.7)), (20, (0, 0.425, 1.7))])
def test_weight_ramp(ramp, weights):
  method = _method(networks=2, weight_ramp_steps=ramp)
  params, stats = variables(method)
  b = batch(PLAIN)
  run = _loss(method)
  supervised, term, _ = _plain(_Reference(params, stats), b)
  for step, weight in zip((0, 5, 1000), weights):
    found = run(params, stats, b, step)
    _check(found, supervised, term, weight)


def test_ohem_options_reach_the_supervised_loss():
  options = {"supervised_loss": "ohem", "loss_group": 1, "ohem_threshold": 0.0}
  method = _method(networks=2, ohem_kept_fraction=0.25, **options)
  params, stats = variables(method)
  _, out = _loss(method)(params, stats, batch(PLAIN), 0)
  kept, pixels = out.metrics["supervised_pixels"]
  assert kept / pixels == 0.25


@pytest.mark.parametrize(
  "cutmix, partner, orders",
  [
    (False, "different_image", ["labeled", "unlabeled"]),
    (True, "different_image", ["labeled", "unlabeled", "unlabeled_mix"]),
    (True, "same_image", ["labeled", "unlabeled", "unlabeled"]),
  ],
)
def test_streams(cutmix, partner, orders):
  config = _config(networks=2, cutmix=cutmix, cutmix_partner=partner)
  config.train.batch_labeled, config.train.batch_unlabeled = 5, 7
  streams = contract.find("cps").streams(config)
  assert [s.name for s in streams] == list(MIXED[: len(orders)])
  assert [s.order for s in streams] == orders
  assert [s.source for s in streams] == ["labeled", "unlabeled", "unlabeled"][: len(orders)]
  assert [s.batch for s in streams] == [5, 7, 7][: len(orders)]


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"networks": 1}, "method.networks=1: CPS needs at least 2"),
    ({"cutmix_partner": "any"}, "'any': one of 'different_image', 'same_image'"),
    ({"cutmix": True, "cutmix_partner": "any"}, "'any': one of 'different_image', 'same_image'"),
    ({"supervised_loss": "hinge"}, "'hinge': one of 'ce', 'ohem'"),
  ],
)
def test_impossible_options(changes, said):
  with pytest.raises(ConfigError, match=said):
    rules.validate(_config(**changes))
