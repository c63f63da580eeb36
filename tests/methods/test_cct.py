"""CCT on the small network against loops in numpy; what trains what; its memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import auxiliary_decoders, cct, contract
from semiseg_jax.methods.auxiliary_decoders import KINDS
from semiseg_jax.methods.step import Step
from semiseg_jax.ops.keys import example_keys
from tests import small_network
from tests.golden_files import golden
from tests.ops.regions import flooded
from tests.small_network import batch, copy, normalized, variables

CLASSES, SIZE, ROWS, STEP = 4, (16, 12), 3, 2
GRID = (SIZE[0] // 2, SIZE[1] // 2)
VALID = (2, 0, 16, 9)
KEY = jax.random.key(5)
COUNTS = dict(zip(KINDS, (1, 2, 2, 1, 1, 2, 1)))
ONE = dict.fromkeys(KINDS, 0) | {"context_masking": 1}  # compiles fast
# Title -> (keys of `method`, keys of `method.cct`).
CASES = {
  "default": ({}, {}),
  "padding": ({"compat": ("consistency_padding",)}, {"last_relu": False, "erase": 0.7}),
  "constants": (
    {"weight_ramp_steps": 5, "compat": ("contours",)},
    {
      "xi": 0.05,
      "length": 0.7,
      "dropout_p": 0.3,
      "activity": (0.4, 0.6),
      "noise": 0.8,
      "background": (1, 2),
      "distance": "kl",
      "confidence": 0.4,
      "temperature": 2.0,
      "pairwise": 0.5,
    },
  ),
}


def _config(changes=(), options=()):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.train.steps = 100
  c.method.update({"name": "cct", "networks": 1, "weight": 30.0, **dict(changes)})
  c.method.cct.update(COUNTS | {"background": (0, 3)} | dict(options))
  return c


def _softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


class Decoder:
  """One auxiliary decoder with one doubling, in float64, and its gradient by the input."""

  def __init__(self, params, k, last_relu):
    p = copy(params["auxiliary"], k)["module"]
    self.first, self.second = p["reduce"]["kernel"][0, 0], p["double1"]["kernel"][0, 0]
    self.bias, self.last_relu = p["double1"]["bias"], last_relu

  def __call__(self, z):
    y = z @ self.first @ self.second + self.bias
    y = np.maximum(y, 0) if self.last_relu else y
    out = np.zeros((len(z), 2 * z.shape[1], 2 * z.shape[2], y.shape[-1] // 4))
    for a, b in np.ndindex(2, 2):
      out[:, a::2, b::2] = y[..., 2 * a + b :: 4]
    return out

  def pulled_back(self, z, cotangent):
    y = np.zeros((*z.shape[:3], 4 * cotangent.shape[-1]))
    for a, b in np.ndindex(2, 2):
      y[..., 2 * a + b :: 4] = cotangent[:, a::2, b::2]
    if self.last_relu:
      y *= z @ self.first @ self.second + self.bias > 0
    return y @ self.second.T @ self.first.T


class Reference:
  """The step in float64, decoder by decoder and picture by picture."""

  def __init__(self, config, params, stats, b):
    self.c, self.o = config, config.method.cct
    self.P, self.h = {}, {}
    stats = copy(stats["networks"], 0)
    for name in ("labeled", "unlabeled"):
      self.P[name], self.h[name], stats = _passed(copy(params["networks"], 0), stats, b[name])
    self.stats, self.y = stats, b["labeled"]["label"]
    self.q = _softmax(self.P["unlabeled"])
    self.rows = b["unlabeled"]["row"]
    y0, x0, y1, x1 = b["unlabeled"]["valid"][0]
    self.compared = np.zeros((ROWS, *SIZE), bool)
    self.compared[:, y0:y1, x0:x1] = True
    if "consistency_padding" in self.c.method.compat:
      self.compared[:] = True
    self.inside = self.compared.copy()
    self.compared &= self.q.max(-1) > self.o.confidence
    self.objects = ~np.isin(self.P["unlabeled"].argmax(-1), self.o.background)
    self.m = self.objects[:, ::2, ::2]
    decoders, self.predicted = iter(range(sum(COUNTS.values()))), []
    self.means = {
      kind: np.mean([self.distance(params, kind, k, next(decoders)) for k in range(n)])
      for kind, n in COUNTS.items()
    }
    self.L_u = sum(COUNTS[kind] * mean for kind, mean in self.means.items()) / sum(COUNTS.values())
    self.pairwise = self.variance(sum(COUNTS.values()))
    self.L_u += self.o.pairwise * self.pairwise

  def variance(self, number):
    """Of the predictions of the 8 decoders that stand first in a random order."""
    key = example_keys(KEY, "unlabeled/pairwise", self.rows)[0]
    places = np.asarray(jax.random.permutation(key, number))
    eight = [p for p, place in zip(self.predicted, places) if place < 8]
    assert len(eight) == 8 < number
    mean = sum(eight) / 8
    return (sum((p - mean) ** 2 for p in eight) / 8).sum(-1)[self.inside].mean()

  def supervised(self):
    p = _softmax(self.P["labeled"] / self.o.temperature)
    used = self.y != 255
    picked = np.take_along_axis(p, np.where(used, self.y, 0)[..., None], -1)[..., 0]
    return -np.log(picked[used]).mean()

  def distance(self, params, kind, k, number):
    g = Decoder(params, number, self.o.last_relu)
    log_a = np.log(_softmax(g(self.perturbed(kind, k, g))))
    self.predicted.append(np.exp(log_a))
    if self.o.distance == "kl":
      entries = self.q * (np.log(self.q) - log_a)
    else:
      entries = (np.exp(log_a) - self.q) ** 2
    return entries[self.compared].mean()

  def perturbed(self, kind, k, g):
    h, c = self.h["unlabeled"], self.h["unlabeled"].shape[-1]
    if kind == "vat":
      return h + self.adversarial(h, self.u(kind, k, *h.shape[1:]), g)
    if kind == "dropout":
      keep = self.u(kind, k, 1, 1, c) >= self.o.dropout_p
      return h * keep / (1 - self.o.dropout_p)
    if kind == "cutout":
      return h * self.cut(k)[..., None]
    if kind == "context_masking":
      return h * self.m[..., None]
    if kind == "object_masking":
      return h * ~self.m[..., None]
    if kind == "feature_drop":
      low, high = self.o.activity
      share = low + (high - low) * self.u_of_all(kind, k)
      return np.stack([x * (x.mean(-1) < share * x.mean(-1).max())[..., None] for x in h])
    return h + h * (2 * self.u_of_all(kind, k, *h.shape[1:]) - 1) * self.o.noise

  def u(self, kind, k, *shape):
    keys = example_keys(KEY, f"unlabeled/{kind}", self.rows)
    draw = lambda key: jax.random.uniform(jax.random.fold_in(key, k), shape)
    return np.stack([np.asarray(draw(key), np.float64) for key in keys])

  def u_of_all(self, kind, k, *shape):
    return self.u(kind, k, *shape)[0]

  def adversarial(self, h, u, g):
    unit = lambda d: np.stack([x / (np.sqrt((x**2).sum()) + 1e-8) for x in d])
    moved = h + self.o.xi * unit(u - 0.5)
    cotangent = (_softmax(g(moved)) - _softmax(g(h))) / len(h)
    return self.o.length * unit(self.o.xi * g.pulled_back(moved, cotangent))

  def cut(self, k):
    """One after the other the largest region first; ties do not matter to the mask's law."""
    keep, cells = np.ones((ROWS, *GRID), bool), GRID[0] * GRID[1]
    u = self.u("cutout", k, min(64, cells), 2)
    for row, (M, m) in enumerate(zip(self.objects, self.m)):
      if "contours" in self.c.method.compat:
        boxes = []  # nothing in a picture of 16x12 has more than 50 vertices
        assert M.size < 50 * 4
      else:
        last = lambda region: max(y * GRID[1] + x for y, x in region)
        regions = sorted(flooded(m), key=lambda region: (-len(region), last(region)))
        boxes = [np.array([2 * np.min(list(r), 0), 2 * np.max(list(r), 0) + 1]) for r in regions]
      for (start, end), draws in zip(boxes, u[row]):
        size = [int(self.o.erase * n) for n in end - start]
        at = [
          int(first) + int(draw * (int((1 - self.o.erase) * n) + 1))
          for first, n, draw in zip(start, end - start, draws)
        ]
        for y, x in np.ndindex(*GRID):
          inside = [p <= 2 * q < p + s for p, q, s in zip(at, (y, x), size)]
          keep[row, y, x] &= not all(inside)
    return keep


def _passed(params, stats, stream):
  """Logits at full size, features and new statistics of one stream."""
  x = normalized(stream)
  features, _ = small_network.encode(params, stats, x, "train")
  head = params["decoder"]
  inner = {"kernel": np.eye(6)[None, None], "bias": np.zeros(6)}
  seen = {**params, "decoder": {**head, "classifier": inner}}
  h, _ = small_network.decode(seen, stats, features, "train")
  logits, stats = small_network.forward(params, stats, x, "train")
  return small_network.upsampled(logits, SIZE), h, stats


def _batch():
  b = batch(("labeled", "unlabeled"), size=SIZE, rows=ROWS, valid=VALID)
  b["labeled"]["label"][0, :5] = 255
  return b


def _run(config, b):
  method = small_network.method(config, classes=CLASSES)
  params, stats = variables(method, scale=0.5)
  # All classes are predicted somewhere: their mean logits are made equal.
  logits, *_ = _passed(copy(params["networks"], 0), copy(stats["networks"], 0), b["unlabeled"])
  params["networks"]["decoder"]["classifier"]["bias"] -= logits.mean((0, 1, 2)).astype(np.float32)

  @jax.jit
  def run(params, t):
    return method.loss(params, stats, {}, b, KEY, t, frozenset())

  return run, params, stats


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_losses_and_statistics_equal_loops(case):
  config, b = _config(*CASES[case]), _batch()
  run, params, stats = _run(config, b)
  with jax.default_matmul_precision("highest"):
    total, out = run(params, STEP)
  reference = Reference(config, params, stats, b)
  assert reference.m.any() and not reference.m.all() and reference.compared.any()
  ramp = np.exp(-5 * (1 - STEP / 5) ** 2) if config.method.weight_ramp_steps else 1
  value = lambda name: float(out.metrics[name][0] / out.metrics[name][1])
  for kind, expected in reference.means.items():
    np.testing.assert_allclose(value(f"consistency/{kind}"), expected, rtol=1e-3, err_msg=kind)
  np.testing.assert_allclose(value("cross_consistency"), reference.L_u, rtol=1e-3)
  np.testing.assert_allclose(total, reference.supervised() + 30 * ramp * reference.L_u, rtol=1e-3)
  found = jax.tree.map(lambda x: x[0], out.stats["networks"])
  small_network.close(found, reference.stats, rtol=1e-3, atol=1e-5)
  if case == "default":
    assert not np.all(reference.cut(0)), "something must be cut"


class Bare(Step):
  """A step without pictures: nothing of them is padding."""

  def __init__(self, c, shape):
    self.c, self.shape, self.metrics, self.shown, self.taught = c, shape, {}, {}, {}
    self._part, self._owners = ("cct", cct), {}
    self._method = self._part

  def inside(self, stream, unless=""):
    return jnp.ones(self.shape, bool)

  def y(self, stream):
    return jnp.zeros(self.shape, jnp.uint8)


@pytest.mark.parametrize(
  "name, options, compat",
  [
    ("l_mse", {}, ()),
    ("l_mse_conf", {"confidence": 0.5}, ()),
    ("l_mse_conf_empty", {"confidence": 0.9999999}, ()),
    ("l_kl", {"distance": "kl"}, ()),
    ("l_kl_conf", {"distance": "kl", "confidence": 0.5}, ("masked_kl",)),
    ("l_js", {"distance": "js"}, ("reversed_js",)),
  ],
)
def test_golden_distances(name, options, compat):
  g = golden("cct_perturbations")
  logits, P = (jnp.moveaxis(jnp.asarray(g[f"l_{x}"]), 1, -1) for x in ("inputs", "target_logits"))
  c = _config({"compat": compat}, options)
  loss = lambda logits: auxiliary_decoders.distance_to(c.method.cct, Bare(c, logits.shape[:-1]), P)(
    logits
  )
  value, found = jax.jit(jax.value_and_grad(loss))(logits)
  np.testing.assert_allclose(value, g[name], rtol=1e-5)
  expected = np.moveaxis(g[f"{name}_grad"], 1, -1) if f"{name}_grad" in g else 0 * logits
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def gradients():
  """By the step: at 0 the weight of L_u is 0, at 1 it is 1."""
  changes = {"weight": 1.0, "weight_ramp": "linear", "weight_ramp_steps": 1}
  run, params, _ = _run(_config(changes), _batch())
  gradient = jax.jit(jax.grad(lambda p, t: run(p, t)[0]))
  return {t: gradient(params, t) for t in (0, 1)}


@pytest.mark.slow
def test_the_unlabeled_loss_trains_the_encoder_and_the_auxiliary_decoders_alone(gradients):
  plain, both = gradients[0], gradients[1]
  main = [tree["networks"]["decoder"].pop("classifier") for tree in (plain, both)]
  small_network.close(main[1], main[0], rtol=1e-6, atol=1e-7)
  assert max(np.abs(x).max() for x in jax.tree.leaves(main[0])) > 1e-3
  for a, b in zip(*(jax.tree.leaves(tree["networks"]) for tree in (plain, both)), strict=True):
    assert np.abs(a - b).max() > 1e-6
  assert not any(np.any(x) for x in jax.tree.leaves(plain["auxiliary"]))
  for x in jax.tree.leaves(both["auxiliary"]):
    per_decoder = np.abs(x).reshape(len(x), -1).max(1)
    assert (per_decoder > 1e-6).all(), per_decoder


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone_gives_a_gradient_to_its_decoders(kind):
  run, params, _ = _run(_config({}, dict.fromkeys(KINDS, 0) | {kind: 2}), _batch())
  found = jax.jit(jax.grad(lambda p: run(p, STEP)[0]))(params)["auxiliary"]
  for x in jax.tree.leaves(found):
    assert x.shape[0] == 2 and np.isfinite(x).all() and (np.abs(x).reshape(2, -1).max(1) > 0).all()


def test_the_annealed_loss_takes_the_place_of_cross_entropy():
  b = _batch()
  shares = []
  for annealed in (False, True):
    run, params, _ = _run(_config({}, ONE | {"annealed": annealed}), b)
    metrics = run(params, 0)[1].metrics
    shares.append(float(metrics["supervised_pixels"][0]))
  assert 0 < shares[1] < 0.7 * shares[0] == 0.7 * (b["labeled"]["label"] != 255).sum()


def test_where_nothing_is_sure_nothing_is_compared():
  run, params, _ = _run(_config({}, ONE | {"confidence": 0.999999}), _batch())
  metrics = run(params, STEP)[1].metrics
  assert metrics["cross_consistency"][0] == 0


def _memory(copies):
  """Bytes of temporary arrays in the gradient with so many decoders of each kind."""
  config = _config({}, dict.fromkeys(KINDS, copies) | {"pairwise": 1.0})
  method = small_network.method(config, classes=8)
  params, stats = variables(method)
  b = batch(("labeled", "unlabeled"), size=(64, 64), rows=4, classes=8)

  def loss(params):
    return method.loss(params, stats, {}, b, KEY, jnp.int32(STEP), frozenset())[0]

  return jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_decoders():
  """Seven maps at full size more would be as many times 4 * 64 * 64 * 8 floats."""
  one_map = 4 * 64 * 64 * 8 * 4
  assert _memory(5) - _memory(1) < one_map / 4


@pytest.mark.parametrize(
  "changes, options, said",
  [
    ({"networks": 2}, {}, "method.networks=2: CCT has 1 network"),
    ({}, dict.fromkeys(KINDS, 0), "no auxiliary decoder; give one of vat, dropout"),
    ({"compat": ("reversed_js",)}, {}, "'reversed_js' needs method.cct.distance='js'"),
    ({"compat": ("masked_kl",)}, {"distance": "kl"}, "'masked_kl' needs .*confidence > 0"),
    ({"supervised_loss": "ohem"}, {"annealed": True}, "method.cct.annealed=True"),
    ({}, {"activity": (0.9, 0.7)}, "method.cct.activity"),
    ({"compat": ("summed",)}, {}, "summed"),
  ],
)
def test_impossible_options(changes, options, said):
  with pytest.raises(ConfigError, match=said):
    rules.validate(_config(changes, options))


def test_it_needs_the_whole_batch():
  assert not contract.divisible(_config())


def test_a_head_without_features_is_refused():
  class Plain(small_network.Decoder):
    def __call__(self, features, mode):
      return {"logits": super().__call__(features, mode)["logits"]}

  network = small_network.family(CLASSES)[0].network
  network = dataclasses.replace(network, decoder=Plain(CLASSES))
  _, auxiliary = cct.nets(_config())
  with pytest.raises(ConfigError, match="head Plain gives no 'features' .it gives logits"):
    auxiliary.network(network)
