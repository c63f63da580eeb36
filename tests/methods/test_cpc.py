"""CPC against loops in numpy: the loss, its gradient, padding, the ramp."""

import jax
import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from tests import small_network
from tests.small_network import batch, copy, forward, normalized, upsampled, variables

CLASSES, SIZE, VALID = 4, (8, 6), (1, 0, 7, 4)
STREAMS = ("labeled", "unlabeled")


def _config(**changes):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.method.update({"name": "cpc", "weight": 1.7, **changes})
  return c


def _softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


class Reference:
  """Probabilities [N][stream] in float64; the targets are those of `fixed`, once it is set."""

  def __init__(self, config, params, stats, b):
    self.config, self.b, self.fixed = config, b, None
    self.stats = [copy(stats["networks"], k) for k in range(config.method.networks)]
    self.moved = self.go(params)

  def go(self, params):
    self.p, moved = [], []
    for k, stats in enumerate(self.stats):
      row = []
      for name in STREAMS:
        logits, stats = forward(
          copy(params["networks"], k), stats, normalized(self.b[name]), "train"
        )
        row.append(_softmax(upsampled(logits, SIZE)))
      self.p.append(row)
      moved.append(stats)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *moved)

  def supervised(self):
    y = self.b["labeled"]["label"]
    used = y != 255
    picked = lambda p: np.take_along_axis(p, np.where(used, y, 0)[..., None], -1)[..., 0]
    return sum(-(np.log(picked(row[0])) * used).sum() / used.sum() for row in self.p)

  def cpc(self):
    n, target = len(self.p), self.fixed or self.p
    inside = np.ones(SIZE, bool)
    if not self.config.method.compat:
      inside[:] = False
      inside[VALID[0] : VALID[2], VALID[1] : VALID[3]] = True
    pairs = [(k, j) for k in range(n) for j in range(n) if j != k]
    distance = lambda k, j: np.mean(
      [np.square(a - b)[:, inside] for a, b in zip(self.p[k], target[j])]
    )
    return sum(distance(k, j) for k, j in pairs) / (n - 1)


def _run(config, b):
  method = small_network.method(config, classes=CLASSES)
  params, stats = variables(method)

  @jax.jit
  def run(params, t):
    return method.loss(params, stats, {}, b, jax.random.key(0), t, frozenset())

  return run, params, stats


def _batch():
  b = batch(STREAMS, size=SIZE, valid=VALID)
  b["labeled"]["label"][0, :3] = 255
  return b


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("compat", [(), ("consistency_padding",)])
def test_the_loss_of_n_networks(n, compat):
  config, b = _config(networks=n, compat=compat), _batch()
  run, params, stats = _run(config, b)
  total, out = run(params, 0)
  reference = Reference(config, params, stats, b)
  term = reference.cpc()
  assert term > 1e-3, "the networks must disagree for this to test anything"
  np.testing.assert_allclose(out.metrics["cpc"][0], term, rtol=1e-4)
  np.testing.assert_allclose(total, reference.supervised() + 1.7 * term, rtol=1e-4)
  small_network.close(out.stats["networks"], reference.moved, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_no_gradient_reaches_a_target(n):
  """Against finite differences of the loss with the targets fixed."""
  config, b = _config(networks=n), _batch()
  run, params, stats = _run(config, b)
  gradient = jax.jit(jax.grad(lambda p: run(p, 0)[0]))(params)
  reference = Reference(config, params, stats, b)
  reference.fixed = reference.p

  def value(sign, direction):
    reference.go(jax.tree.map(lambda p, d: np.float64(p) + sign * 1e-6 * d, params, direction))
    return reference.supervised() + 1.7 * reference.cpc()

  rng = np.random.default_rng(5)
  for _ in range(2):
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(direction))
    slope = sum((np.asarray(g, np.float64) * d).sum() for g, d in pairs)
    expected = (value(1, direction) - value(-1, direction)) / 2e-6
    np.testing.assert_allclose(slope, expected, rtol=2e-3)


def test_the_weight_ramps_like_a_mean_teachers():
  run, params, _ = _run(_config(networks=2, weight_ramp_steps=20), _batch())
  for t, share in ((0, np.exp(-5)), (10, np.exp(-5 / 4)), (20, 1), (1000, 1)):
    out = run(params, t)[1]
    np.testing.assert_allclose(out.metrics["consistency_weight"][0], 1.7 * share, rtol=1e-5)


def test_one_network_is_refused():
  with pytest.raises(ConfigError, match="method.networks=1: CPC needs at least 2"):
    rules.validate(_config(networks=1))
