"""GCT against the reference's losses, and against loops in numpy on the small network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import gct
from semiseg_jax.ops import flaws
from semiseg_jax.ops.losses import cross_entropy_over_all
from semiseg_jax.ops.resize import resize_bilinear
from tests import small_network
from tests.golden_files import golden
from tests.methods import flaw_loops
from tests.models.numpy_reference import conv2d
from tests.small_network import batch, copy, forward, normalized, upsampled, variables

CLASSES, SIZE, STEP = 4, (32, 36), 2
STREAMS = ("labeled", "unlabeled")
VALID = (2, 0, 32, 25)
WEIGHTS = {"weight_correction": 1.3, "weight_detector": 2.5, "widths": (4, 6), "threshold": 0.4}
# Title -> (keys of `method`, keys of `method.gct`).
CASES = {
  "default": ({}, {}),
  "quirks": ({"compat": gct.COMPAT}, {"ce_mean": "all_pixels"}),
  "constants": ({"weight_ramp_steps": 5}, {"mu": 0.4, "nu": 2}),
}


def _config(changes=(), options=()):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.method.update({"name": "gct", "weight": 1.7, **dict(changes)})
  c.method.gct.update(WEIGHTS | dict(options))
  return c


# Golden losses.


@pytest.fixture(scope="module")
def g():
  return golden("gct_losses")


def _check(found, value, gradient):
  np.testing.assert_allclose(found[0], value, rtol=1e-4)
  np.testing.assert_allclose(found[1], gradient, atol=1e-3 * np.abs(gradient).max())


@pytest.mark.parametrize("which", ["plain", "reference"])
def test_golden_loss_of_the_flaw_detector(g, which):
  """`plain` is the same with the quirk of ignored pixels alone."""
  n, size = int(g["labeled_batch"]), g["label"].shape[-2:]
  c = _config()
  c.method.gct.mu, c.method.gct.nu = float(g["mu"]), int(g["nu"])
  c.method.compat = ("ignored_flawed", "clamped_flaws")[: 1 + (which == "reference")]
  low = np.stack([np.moveaxis(g[f"low_{k}"][:n], 1, -1) for k in "lr"])
  p = jax.nn.softmax(resize_bilinear(low, size, align_corners=True))
  y, f_r = jnp.asarray(g["label"][:n, 0]), g["flaw_r"][:n, 0]

  def loss(f):
    f = jnp.stack([f[:n], f_r])
    return gct.fitted(c, f, p, y, int(g["im_size"]))[0]

  found = jax.jit(jax.value_and_grad(loss))(g["flaw_l"][:, 0])
  _check(found, g[f"loss_fd_l_{which}"], g[f"grad_fd_l_{which}"][:, 0])


def test_golden_flaw_correction(g):
  bad = jnp.asarray(g["fc_mask"][:, 0] > 0)
  found = jax.value_and_grad(lambda f: flaws.correction(f[None], bad).mean())(g["flaw_l"][:, 0])
  _check(found, g["loss_fc_l"], g["grad_fc_l"][:, 0])


def test_golden_supervised_loss_is_over_all_pixels(g):
  y, low = jnp.asarray(g["label"][:, 0]), np.moveaxis(g["low_l"], 1, -1)
  up = lambda z: resize_bilinear(z, y.shape[1:], align_corners=True)[None]
  n = int(g["labeled_batch"])
  loss = lambda z: gct.CE["all_pixels"](up(z)[:, :n], y[:n])[0][0]
  found = jax.jit(jax.value_and_grad(loss))(low)
  _check(found, g["loss_task_l"], np.moveaxis(g["grad_task_l"], 1, -1))
  assert gct.CE["all_pixels"] is cross_entropy_over_all


# The whole step on the small network.


def _softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def _norm(x, axes):
  return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def _detector(params, stats, maps):
  """The flaw detector of two widths on [B,H,W,3+C] in training: maps [B,H,W], new statistics."""
  x, moved = maps, {}
  for layer in ("1", "2", "2_1"):
    p, kernel = params[f"conv{layer}"], params[f"conv{layer}"]["kernel"].transpose(3, 2, 0, 1)
    x = conv2d(x, kernel, stride=1 if "_" in layer else 2, padding=1) + p["bias"]
    first, rest = np.split(x, 2, -1)
    b, s = params[f"ibn{layer}"]["bnorm"], stats[f"ibn{layer}"]["bnorm"]
    pixels = first.reshape(-1, first.shape[-1])
    mean, var = 0.9 * s["mean"] + 0.1 * pixels.mean(0), 0.9 * s["var"] + 0.1 * pixels.var(0, ddof=1)
    moved[f"ibn{layer}"] = {"bnorm": {"mean": mean, "var": var}}
    first = _norm(first, (0, 1, 2)) * b["scale"] + b["bias"]
    x = np.concatenate([first, _norm(rest, (1, 2))], -1)
    x = np.where(x < 0, 0.2 * x, x)
  p = params["classifier"]
  x = conv2d(x, p["kernel"].transpose(3, 2, 0, 1), stride=2, padding=1) + p["bias"]
  return upsampled(x, SIZE)[..., 0], moved


class Reference:
  """Both networks and the flaw detector, in float64, in the order of the passes."""

  def __init__(self, config, params, stats, b):
    self.m, self.o, self.compat = config.method, config.method.gct, config.method.compat
    self.b, self.x = b, np.concatenate([normalized(b[name]) for name in STREAMS])
    self.rows = len(b["labeled"]["image"])
    self.stats = [copy(stats["networks"], k) for k in (0, 1)]
    self.F = copy(params["flaw_detector"], 0)["module"]
    self.F_stats = copy(stats["flaw_detector"], 0)["module"]
    self.pass_networks(params)
    self.first = [self.flaws(self.F, p) for p in self.p]
    self.f = [self.flaws(self.F, p) for p in self.p]
    self.h = flaw_loops.handled(np.stack(self.f), min(SIZE), "negative_flawless" in self.compat)
    self.y = b["labeled"]["label"]
    flawed = "ignored_flawed" in self.compat
    constants = {"mu": self.o.mu, "nu": self.o.nu, "ignored_flawed": flawed}
    self.targets = [
      flaw_loops.target(p[: self.rows], self.y, min(SIZE), **constants) for p in self.p
    ]
    y0, x0, y1, x1 = b["labeled"]["valid"][0]
    self.inside = np.zeros(SIZE, bool)
    self.inside[y0:y1, x0:x1] = True
    if "consistency_padding" in self.compat:
      self.inside[:] = True
    self.fixed = list(self.p)

  def pass_networks(self, params):
    self.p, self.moved = [], []
    for k in (0, 1):
      logits, moved = forward(copy(params["networks"], k), self.stats[k], self.x, "train")
      self.p.append(_softmax(upsampled(logits, SIZE)))
      self.moved.append(moved)

  def flaws(self, F, p):
    f, self.F_stats = _detector(F, self.F_stats, np.concatenate([self.x, p], -1))
    return f

  def supervised(self, k):
    used = self.y != 255
    picked = np.take_along_axis(self.p[k][: self.rows], np.where(used, self.y, 0)[..., None], -1)
    total = -(np.log(picked[..., 0]) * used).sum()
    return total / (used.size if self.o.ce_mean == "all_pixels" else used.sum())

  def consistency(self, k):
    """The target is the other's prediction where this network is the worse one."""
    xi, mine, other = self.o.threshold, self.h[k], self.h[1 - k]
    mine, other = (np.where(h > xi, 1.0, h) for h in (mine, other))
    target = np.where((other >= mine)[..., None], self.p[k], self.fixed[1 - k])
    return np.square(self.p[k] - target).mean(-1)[:, self.inside].mean()

  def correction(self, f):
    both = (self.h[0] > self.o.threshold) & (self.h[1] > self.o.threshold)
    return (both * np.square(f))[:, self.inside].mean()

  def detector(self, maps):
    clamp = (lambda f: np.maximum(f, 0)) if "clamped_flaws" in self.compat else lambda f: f
    pairs = zip(maps, self.targets)
    return np.mean([np.square(clamp(f[: self.rows]) - target).mean() for f, target in pairs])

  def total(self, weight):
    taught = weight * sum(map(self.consistency, (0, 1)))
    corrected = self.o.weight_correction * sum(map(self.correction, self.f))
    found = self.o.weight_detector * self.detector(self.first)
    return sum(map(self.supervised, (0, 1))) + taught + corrected + found


def _batch():
  b = batch(STREAMS, size=SIZE, valid=VALID)
  b["labeled"]["label"][:, :, 25:] = 255
  b["labeled"]["label"][0, :5] = 255
  return b


def _run(config, b):
  method = small_network.method(config, classes=CLASSES)
  params, stats = variables(method, scale=0.4)

  @jax.jit
  def run(params, t):
    return method.loss(params, stats, {}, b, jax.random.key(0), t, frozenset())

  return run, params, stats


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_losses_and_statistics_equal_loops(case):
  config, b = _config(*CASES[case]), _batch()
  run, params, stats = _run(config, b)
  total, out = run(params, STEP)
  reference = Reference(config, params, stats, b)
  ramp = np.exp(-5 * (1 - STEP / 5) ** 2) if config.method.weight_ramp_steps else 1
  value = lambda name: float(out.metrics[name][0] / out.metrics[name][1])
  consistency = [reference.consistency(k) for k in (0, 1)]
  correction = [reference.correction(f) for f in reference.f]
  assert min(consistency + correction) > 1e-5, "every part must take part"
  np.testing.assert_allclose(value("consistency"), sum(consistency), rtol=2e-3)
  np.testing.assert_allclose(value("correction"), sum(correction), rtol=2e-3)
  np.testing.assert_allclose(value("flaw_detector"), reference.detector(reference.first), rtol=1e-3)
  np.testing.assert_allclose(total, reference.total(1.7 * ramp), rtol=1e-3)
  moved = jax.tree.map(lambda *leaves: np.stack(leaves), *reference.moved)
  small_network.close(out.stats["networks"], moved, rtol=1e-3, atol=1e-5)
  found = jax.tree.map(lambda x: x[0], out.stats["flaw_detector"]["module"])
  small_network.close(found, reference.F_stats, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_gradient_holds_what_the_paper_holds():
  """Against finite differences of the loops: F fixed in L_T; h, targets, F's input as they are."""
  config, b = _config({"weight": 100.0}), _batch()
  run, params, stats = _run(config, b)
  gradient = jax.jit(jax.grad(lambda p: run(p, STEP)[0]))(params)
  reference = Reference(config, params, stats, b)

  def value(net, sign, direction):
    shift = lambda p, d: np.float64(p) + sign * 1e-8 * d  # larger steps meet kinks of ReLU
    moved = params | {net: jax.tree.map(shift, params[net], direction)}
    reference.pass_networks(moved)
    reference.f = [reference.flaws(reference.F, p) for p in reference.p]
    F = copy(moved["flaw_detector"], 0)["module"]
    reference.first = [reference.flaws(F, p) for p in reference.fixed]
    return reference.total(100)

  rng = np.random.default_rng(5)
  for net in ("networks", "flaw_detector"):
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params[net])
    pairs = zip(jax.tree.leaves(gradient[net]), jax.tree.leaves(direction))
    slope = sum((np.asarray(x, np.float64) * d).sum() for x, d in pairs)
    expected = (value(net, 1, direction) - value(net, -1, direction)) / 2e-8
    np.testing.assert_allclose(slope, expected, rtol=2e-3)


def _gradient(**options):
  changes = {"weight": options.pop("weight", 0.0)}
  run, params, _ = _run(_config(changes, {"weight_correction": 0.0} | options), _batch())
  return jax.jit(jax.grad(lambda p: run(p, STEP)[0]))(params)


@pytest.mark.slow
def test_each_term_moves_exactly_its_networks():
  """Consistency and correction both task networks and never F; L_F nothing but F."""
  plain = _gradient()
  for changes in ({"weight": 1.0}, {"weight_correction": 1.0}):
    other = _gradient(**changes)
    small_network.close(other["flaw_detector"], plain["flaw_detector"], rtol=1e-5, atol=1e-7)
    for k in (0, 1):
      pairs = zip(*(jax.tree.leaves(small_network.copy(x["networks"], k)) for x in (other, plain)))
      assert max(np.abs(a - b).max() for a, b in pairs) > 1e-4, (changes, k)
  other = _gradient(weight_detector=5.0)
  small_network.close(other["networks"], plain["networks"], rtol=1e-4, atol=1e-6)
  doubled = jax.tree.map(lambda x: 2 * x, plain["flaw_detector"])
  small_network.close(other["flaw_detector"], doubled, rtol=1e-4, atol=1e-6)
  assert max(np.abs(x).max() for x in jax.tree.leaves(doubled)) > 1e-2


@pytest.mark.parametrize(
  "changes, options, crop, said",
  [
    ({"networks": 3}, {}, 64, "method.networks=3: GCT compares exactly 2"),
    ({}, {"widths": (4, 5)}, 64, "method.gct.widths=.4, 5.: they must be even"),
    ({}, {"widths": (64, 128, 256, 512)}, 59, "too small for 4 method.gct.widths"),
    ({}, {"threshold": 1.0}, 64, "method.gct.threshold=1.0: "),
    ({"supervised_loss": "ohem"}, {"ce_mean": "all_pixels"}, 64, "ce_mean='all_pixels'"),
    ({"compat": ("reference_memory",)}, {}, 64, "reference_memory"),
  ],
)
def test_impossible_options(changes, options, crop, said):
  config = _config(changes, options)
  config.data.crop = (crop, crop)
  with pytest.raises(ConfigError, match=said):
    rules.validate(config)
