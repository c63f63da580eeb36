"""The baseline's loss against numpy: class weights, auxiliary logits."""

import jax
import numpy as np
import pytest

from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.labels import IGNORE
from tests import small_network

CLASSES, SIZE = 3, (12, 8)


def _loss(monkeypatch, **options):
  """The value, and the logits of numpy at full size; auxiliary logits are half of the logits."""

  class Decoder(small_network.Decoder):
    def __call__(self, features, mode):
      found = super().__call__(features, mode)
      return {**found, "aux_logits": found["logits"] / 2}

  monkeypatch.setattr(small_network, "Decoder", Decoder)
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.method.name, c.method.networks = "supervised", 1
  c.method.supervised.update(options)
  method = small_network.method(c, classes=CLASSES)
  params, stats = small_network.variables(method)
  b = small_network.batch(["labeled"], size=SIZE, classes=CLASSES)
  b["labeled"]["label"][:, :3] = IGNORE
  run = jax.jit(method.loss, static_argnums=6)
  value, out = run(params, stats, {}, b, jax.random.key(0), 0, frozenset())
  copy = [small_network.copy(tree["networks"], 0) for tree in (params, stats)]
  P, _ = small_network.forward(*copy, small_network.normalized(b["labeled"]), "train")
  return value, small_network.upsampled(P, SIZE), b["labeled"]["label"], out


def _cross_entropy(P, y, weights=(1.0,) * CLASSES):
  total = mass = 0.0
  for p, c in zip(P.reshape(-1, CLASSES), y.ravel()):
    if c != IGNORE:
      total += weights[c] * (np.log(np.exp(p).sum()) - p[c])
      mass += weights[c]
  return total / mass


def test_class_weights_weigh_a_mean(monkeypatch):
  weights = (1.0, 5.0, 0.2)
  value, P, y, _ = _loss(monkeypatch, class_weights=weights)
  np.testing.assert_allclose(value, _cross_entropy(P, y, weights), rtol=1e-5)
  assert abs(value - _cross_entropy(P, y)) > 1e-3


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_auxiliary_logits_count_where_they_have_a_weight(monkeypatch, weight):
  value, P, y, out = _loss(monkeypatch, weight_auxiliary=weight)
  expected = _cross_entropy(P, y) + weight * _cross_entropy(P / 2, y)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  assert ("auxiliary" in out.metrics) == (weight > 0)


def test_weights_of_other_classes_are_refused(monkeypatch):
  with pytest.raises(ConfigError, match=r"method.supervised.class_weights=\(1.0, 1.0\): 3, or"):
    _loss(monkeypatch, class_weights=(1.0, 1.0))
