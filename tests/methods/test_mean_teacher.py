"""Mean teacher against loops in numpy: both losses, whose statistics move, what the teacher is."""

import jax
import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from tests import small_network
from tests.methods import given_masks
from tests.small_network import batch, copy, forward, normalized, upsampled, variables

CLASSES, SIZE, ROWS, STEP = 4, (8, 6), 3, 2
VALID = (1, 0, 7, 4)
# Title -> (keys of `method`, keys of `method.mean_teacher`).
CASES = {
  "default": ({"weight_ramp_steps": 5}, {}),
  "cps authors": ({"networks": 1}, {"on": "all"}),
  "pixelssl": ({}, {"consistency": "logit_mse", "ce_mean": "all_pixels"}),
  "padding": ({"compat": ("consistency_padding",)}, {"on": "all"}),
  "cutmix": (
    {"cutmix": True},
    {"consistency": "prob_sse", "teacher_bn": "ema_buffers", "threshold": 0.4},
  ),
  "cutmix, strong": ({"cutmix": True, "networks": 1}, {"strong": True}),
  "strong": ({"networks": 1}, {"strong": True, "on": "all"}),
}


def _gray(pictures):
  """Pillow's: 8 bits, three equal channels."""
  weights = np.array((19595, 38470, 7471))
  gray = (pictures.astype(np.int64) @ weights + 0x8000) >> 16
  return np.repeat(gray[..., None], 3, -1).astype(np.uint8)


def _config(changes, options):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.method.update({"name": "mean_teacher", "networks": 2, "weight": 1.7, **changes})
  c.method.mean_teacher.update(options)
  c.data.strong.update(order=("gray",), gray_p=1.0)
  return c


def _method(config):
  return small_network.method(config, classes=CLASSES)


def _softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


class Reference:
  """Network k in float64: the terms of the loss and the statistics after it."""

  def __init__(self, config, params, stats, b, k):
    self.m, self.o = config.method, config.method.mean_teacher
    self.params = {name: copy(tree, k) for name, tree in params.items()}
    self.stats = {name: copy(tree, k) for name, tree in stats.items()}
    x = {name: normalized(b[name]) for name in b}
    bn = "eval" if self.o.teacher_bn == "ema_buffers" else "train"
    seen = [name for name in x if name != "labeled" or self.o.on == "all"]
    T = {name: self.run("teacher", x[name], bn) for name in seen}
    if self.o.strong:
      for name in set(x) - {"labeled"}:
        x[name] = normalized({**b[name], "image": _gray(b[name]["image"])})
    if self.m.cutmix:
      M = b["unlabeled"]["mask"][..., None]
      T["unlabeled"] = np.where(M, T.pop("unlabeled_mix"), T["unlabeled"])
      x["unlabeled"] = np.where(M, x.pop("unlabeled_mix"), x["unlabeled"])
    S = {name: self.run("networks", x[name], "train") for name in x}
    self.supervised = self.ce(S["labeled"], b["labeled"]["label"])
    self.consistency = self.distance([S[name] for name in T], list(T.values()))

  def run(self, name, images, bn):
    logits, self.stats[name] = forward(self.params[name], self.stats[name], images, bn)
    return upsampled(logits, SIZE)

  def ce(self, P, y):
    used = y != 255
    p = np.take_along_axis(_softmax(P), np.where(used, y, 0)[..., None], -1)[..., 0]
    pixels = y.size if self.o.ce_mean == "all_pixels" else used.sum()
    return (-np.log(p) * used).sum() / pixels

  def distance(self, S, T):
    S, T = np.concatenate(S), np.concatenate(T)
    inside = np.zeros(SIZE, bool)
    inside[VALID[0] : VALID[2], VALID[1] : VALID[3]] = True
    if self.m.compat:
      inside[:] = True
    if self.o.consistency == "logit_mse":
      return ((S - T) ** 2)[:, inside].mean()
    square = ((_softmax(S) - _softmax(T)) ** 2)[:, inside]
    if self.o.consistency == "prob_mse":
      return square.mean()
    return square.sum(-1).mean() * (_softmax(T).max(-1) >= self.o.threshold)[:, inside].mean()


@pytest.mark.parametrize("case", CASES)
def test_the_loss_and_the_statistics(case, monkeypatch):
  given_masks.use(monkeypatch)
  config = _config(*CASES[case])
  method = _method(config)
  params, stats = variables(method)
  b = batch([stream.name for stream in method.streams], rows=ROWS, valid=VALID)
  b["labeled"]["label"][0, :3] = 255
  if config.method.cutmix:
    b["unlabeled"]["mask"] = np.random.default_rng(3).random((ROWS, *SIZE)) < 0.4
  run = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=6)
  args = (params, stats, {}, b, jax.random.key(0), STEP, frozenset())
  (total, out), gradient = run(*args)
  refs = [Reference(config, params, stats, b, k) for k in range(config.method.networks)]
  consistency = sum(r.consistency for r in refs)
  np.testing.assert_allclose(out.metrics["consistency"][0], consistency, rtol=1e-4)
  weight = 1.7 * (np.exp(-5 * (1 - STEP / 5) ** 2) if config.method.weight_ramp_steps else 1)
  expected = sum(r.supervised for r in refs) + weight * consistency
  np.testing.assert_allclose(total, expected, rtol=1e-4)
  moved = jax.tree.map(lambda *x: np.stack(x), *(r.stats for r in refs))
  small_network.close(out.stats, moved, rtol=1e-4, atol=1e-5)
  assert not any(np.any(g) for g in jax.tree.leaves(gradient["teacher"]))
  assert all(np.any(g) for g in jax.tree.leaves(gradient["networks"]))


@pytest.mark.parametrize("bn", ["own_batch", "ema_buffers"])
def test_the_teacher_follows_after_the_update(bn):
  method = _method(_config({}, {"decay": 0.6, "teacher_bn": bn}))
  params, stats = variables(method)
  for step, a in ((0, 0.0), (1, 0.5), (7, 0.6)):
    found, new, _ = method.after_update(params, stats, {}, step)
    mean = lambda tree, a=a: jax.tree.map(
      lambda t, s: a * np.float64(t) + (1 - a) * s, tree["teacher"], tree["networks"]
    )
    small_network.close(found["teacher"], mean(params), rtol=1e-5, atol=1e-7)
    expected = mean(stats) if bn == "ema_buffers" else stats["teacher"]
    small_network.close(new["teacher"], expected, rtol=1e-5, atol=1e-7)
    assert found["networks"] is params["networks"]


def test_the_teacher_starts_as_a_copy_in_buffers_of_its_own():
  method = _method(_config({}, {}))
  for tree in method.start(*variables(method)):
    pairs = zip(jax.tree.leaves(tree["teacher"]), jax.tree.leaves(tree["networks"]), strict=True)
    assert all((a == b).all() and a is not b for a, b in pairs)


@pytest.mark.parametrize(
  "changes, options, words",
  [
    ({}, {"consistency": "kl"}, "consistency='kl': one of 'prob_mse', 'prob_sse', 'logit_mse'"),
    ({}, {"on": "labeled"}, "on='labeled': one of 'unlabeled', 'all'"),
    ({}, {"teacher_bn": "eval"}, "teacher_bn='eval': one of 'own_batch', 'ema_buffers'"),
    ({}, {"ce_mean": "none"}, "ce_mean='none': one of"),
    ({}, {"decay": 1.0}, "decay=1.0: a number, 0 or more, below 1"),
    ({}, {"threshold": 1.0}, "threshold=1.0: a number, 0 or more, below 1"),
    ({"cutmix": True}, {"on": "all"}, "on='all': method.cutmix=True does not read it"),
    (
      {"supervised_loss": "ohem"},
      {"ce_mean": "all_pixels"},
      "method.supervised_loss='ohem' does not",
    ),
  ],
)
def test_impossible_options(changes, options, words):
  with pytest.raises(ConfigError, match=words):
    rules.validate(_config(changes, options))
