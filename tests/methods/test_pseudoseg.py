"""PseudoSeg against loops in numpy on the small network: passes, maps, fusion, what is held."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import pseudoseg
from semiseg_jax.models.critics.class_attention import ImageClassifier
from semiseg_jax.models.layers import Mode
from semiseg_jax.ops import class_maps, fusion, photometry
from semiseg_jax.ops.cutmix import square_masks
from semiseg_jax.ops.keys import example_keys
from tests import small_network
from tests.methods import given_masks
from tests.methods import pseudoseg_loops as loops
from tests.small_network import batch, copy, decode, encode, normalized, upsampled, variables

CLASSES, SIZE, GRID, ROWS, STEP = 4, (8, 6), (4, 3), 4, 2
VALID = (1, 0, 7, 4)
KEY = jax.random.key(0)
# Title -> (keys of `method`, keys of its own block).
CASES = {
  "published": ({"weight_ramp_steps": 5}, {}),
  "quirks, groups": ({"compat": pseudoseg.COMPAT, "loss_group": 2}, {"cutout": 5}),
  "no background": ({}, {"background": False, "share": 0.3, "temperature": 0.7, "cutout": 0}),
  "stored": ({}, {"image_labels": "stored"}),
}


def _config(changes=(), options=()):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  strong = c.data.strong
  # Exact in whole numbers, and jitter and blur would double the time that a step compiles.
  strong.order, strong.gray_p = ("gray",), 0.5
  c.method.update({"name": "pseudoseg", "networks": 2, "weight": 1.7, **dict(changes)})
  c.method.pseudoseg.update({"width": 3, "cutout": 4, **dict(options)})
  return c


def _batch():
  names = ("labeled", "unlabeled")
  b, rng = (
    batch(names, size=SIZE, rows=ROWS, classes=CLASSES, valid=VALID),
    np.random.default_rng(7),
  )
  y = b["labeled"]["label"]
  y[::2][y[::2] == 2] = 0  # classes that are absent
  y[1][y[1] == 3] = 255
  y[0, :3] = y[3] = 255  # a crop of which nothing is known
  b["unlabeled"]["cutout"] = rng.random((ROWS, 2)).astype(np.float32)
  target = np.full((ROWS, *SIZE), 255, np.uint8)
  target[1:3, VALID[0] : VALID[2], VALID[1] : VALID[3]] = 1
  target[1, 2, 1] = 255  # it may be of any class
  b["unlabeled"]["target"] = target
  return b


class Twin:
  """Network k in float64.  What the paper holds is of the first parameters, `held`."""

  def __init__(self, c, params, stats, b, k):
    self.m, self.o, self.c, self.b, self.k = c.method, c.method.pseudoseg, c, b, k
    self.stored = self.o.image_labels == "stored"
    self.groups = ROWS // (self.m.loss_group or ROWS)
    self.x = {name: normalized(b[name]) for name in b}
    self.inside = np.zeros((ROWS, *SIZE), bool)
    self.inside[:, VALID[0] : VALID[2], VALID[1] : VALID[3]] = True
    hole = loops.hole(b["unlabeled"]["cutout"], SIZE, self.o.cutout)
    self.v = self.inside & ~hole
    self.x["strong"] = np.where(hole[..., None], 0, self.view())
    self.first = {name: copy(tree, k) for name, tree in stats.items()}
    self.held = None
    self.total = self.value(params)

  def view(self):
    keys = example_keys(KEY, "unlabeled/strong_1", jnp.arange(ROWS))
    image = photometry.strong_view(self.b["unlabeled"]["image"], keys, self.c)
    return normalized({**self.b["unlabeled"], "image": np.asarray(image)})

  def weight(self):
    ramp = self.m.weight_ramp_steps
    return self.m.weight * (STEP / ramp if ramp else 1)

  def labels(self, y):
    return loops.image_labels(y, CLASSES, self.o.background)

  def value(self, params):
    """The loss at parameters of all copies, with what is held of the first call."""
    self.p = {name: copy(tree, self.k) for name, tree in params.items()}
    self.stats = {name: dict(tree) for name, tree in self.first.items()}
    now = {}
    W, bias = (self.p["classifier"]["module"][k] for k in ("linear", "bias"))
    W = W["kernel"][0, 0]
    # Weak: maps in evaluation mode, the decoder with statistics of its own.
    A, _ = encode(self.p["networks"], self.stats["networks"], self.x["unlabeled"], "eval")
    z = loops.class_logits(A, W, bias)
    known = self.labels(self.b["unlabeled"]["target"])
    self.y_u = known if self.stored else (1 / (1 + np.exp(-z)) >= 0.5).astype(float)
    v = self.v if self.m.compat else self.inside
    S, e = loops.seed(loops.grad_cam(A, W), self.y_u), self.passed(encode, self.x["unlabeled"])
    d = self.passed(decode, e)
    a = upsampled(self.attention(A, S, v), GRID)
    cut = zip(*(np.split(x, self.groups) for x in (d, a)))
    o = self.o
    now["p"] = np.concatenate([loops.fused(x, y, o.share, o.temperature) for x, y in cut])
    P_s = self.passed(decode, self.passed(encode, self.x["strong"]))
    # Labeled.
    A = self.passed(encode, self.x["labeled"])
    P = upsampled(self.passed(decode, A), SIZE)
    y, present = self.b["labeled"]["label"], self.labels(self.b["labeled"]["label"])
    now["A"], now["S"] = A, loops.seed(loops.grad_cam(A, W), present)
    self.held = self.held or now
    a = upsampled(self.attention(self.held["A"], self.held["S"], self.inside), SIZE)
    stored = self.b["unlabeled"]["target"]
    taught = (e, known, loops.known(stored, known, self.inside))
    taught = taught if self.stored else (A, present, loops.known(y, present))
    parts = {"attention": self.cross_entropy(a, y)}
    z = loops.class_logits(taught[0], W, bias)
    cut = zip(*(np.split(x, self.groups) for x in (z, *taught[1:])))
    parts["classifier"] = np.mean([loops.classification(*group) for group in cut])
    parts["consistency"] = self.consistency(P_s, self.held["p"])
    self.parts = parts
    return (
      self.cross_entropy(P, y) + sum(parts.values()) + (self.weight() - 1) * parts["consistency"]
    )

  def passed(self, half, x):
    x, self.stats["networks"] = half(self.p["networks"], self.stats["networks"], x, "train")
    return x

  def attention(self, F, S, v):
    p, s = self.p["attention"]["module"], self.stats["attention"]["module"]["bn"]
    kernel = lambda name: p[name]["kernel"][0, 0]
    R = loops.attended(F, kernel("key"), kernel("query"), S, loops.nearest(v, GRID))
    R = loops.with_background(R) if self.o.background else R
    a, moved = loops.normalized(R @ kernel("mix"), p["bn"]["bias"], s["mean"], s["var"])
    self.stats["attention"] = {"module": {"bn": moved}}
    return a

  def cross_entropy(self, P, y):
    used = y != 255
    p = np.take_along_axis(loops.softmax(P), np.where(used, y, 0)[..., None].astype(int), -1)[
      ..., 0
    ]
    parts = zip(np.split(-np.log(p) * used, self.groups), np.split(used, self.groups))
    return np.mean([ce.sum() / n.sum() for ce, n in parts])

  def consistency(self, P, p):
    v = loops.nearest(self.v, GRID)
    parts = zip(*(np.split(x, self.groups) for x in (P, p, v)))
    return np.mean([np.divide(*loops.soft_cross_entropy(*part)) for part in parts])


@functools.cache
def _compiled(case):
  c, b = _config(*CASES[case]), _batch()
  method = small_network.method(c, classes=CLASSES)
  params, stats = variables(method, scale=0.6)
  loss = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=6)
  return lambda t: loss(params, stats, {}, b, KEY, t, frozenset()), c, b, params, stats


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_losses_statistics_and_gradients_equal_loops(case, monkeypatch):
  """Gradients along a direction in each net, against finite differences that hold M, F and p~."""
  given_masks.use(monkeypatch)
  run, c, b, params, stats = _compiled(case)
  (total, out), gradient = run(STEP)
  twins = [Twin(c, params, stats, b, k) for k in range(2)]
  seen = np.concatenate([t.y_u for t in twins])
  assert 0 < seen.mean() < 1, "classes that are there, and others"
  value = lambda name: np.divide(*out.metrics[name])
  for name in twins[0].parts:
    np.testing.assert_allclose(value(name), np.mean([t.parts[name] for t in twins]), rtol=1e-4)
  np.testing.assert_allclose(value("present_classes"), seen.sum(1).mean(), rtol=1e-5)
  np.testing.assert_allclose(total, sum(t.total for t in twins), rtol=1e-4)
  moved = jax.tree.map(lambda *x: np.stack(x), *(t.stats for t in twins))
  small_network.close(out.stats, moved, rtol=1e-4, atol=1e-5)
  rng, h = np.random.default_rng(5), 1e-7
  for net in params:
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params[net])
    pairs = zip(jax.tree.leaves(gradient[net]), jax.tree.leaves(direction))
    slope = sum((np.asarray(x, np.float64) * step).sum() for x, step in pairs)
    ends = []
    for sign in (1, -1):
      shift = lambda x, step, sign=sign: np.float64(x) + sign * h * step
      ends.append(params | {net: jax.tree.map(shift, params[net], direction)})
    expected = sum(t.value(ends[0]) - t.value(ends[1]) for t in twins) / (2 * h)
    np.testing.assert_allclose(slope, expected, rtol=3e-3, atol=1e-4, err_msg=net)
    assert abs(expected) > 1e-2, net


@pytest.mark.slow
def test_the_consistency_teaches_the_networks_alone(monkeypatch):
  """Its ramp is 0 at step 0 and 1 from step 5 on."""
  given_masks.use(monkeypatch)
  run, *_ = _compiled("published")
  without, whole = run(0)[1], run(5)[1]
  for net in ("classifier", "attention"):
    assert all(np.any(x) for x in jax.tree.leaves(without[net]))
    small_network.close(whole[net], without[net], rtol=1e-5, atol=1e-7)
  pairs = zip(jax.tree.leaves(whole["networks"]), jax.tree.leaves(without["networks"]))
  assert all(np.abs(a - b).max() > 1e-4 for a, b in pairs)


# The maps.


def test_grad_cam_is_the_gradient_of_the_class():
  """relu(sum_k w_ck A_k) with w_ck the mean of d logit_c / d A_k, by automatic differentiation."""
  rng = np.random.default_rng(0)
  A = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
  module = ImageClassifier(3)
  variables = {
    "params": {
      "linear": {"kernel": rng.normal(size=(1, 1, 5, 3)).astype(np.float32)},
      "bias": rng.normal(size=3).astype(np.float32),
    }
  }
  outputs = module.apply(variables, A, Mode("eval"))
  logits = lambda A: module.apply(variables, A, Mode("eval"))["logits"][:, 0, 0]
  for c in range(3):
    w = jax.grad(lambda A, c=c: logits(A)[:, c].sum())(A).mean((1, 2))
    expected = jax.nn.relu((w[:, None, None] * A).sum(-1))
    np.testing.assert_allclose(outputs["cam"][..., c], expected, rtol=1e-5, atol=1e-7)
  kernel = variables["params"]["linear"]["kernel"][0, 0]
  np.testing.assert_allclose(outputs["cam"], loops.grad_cam(A, kernel), rtol=1e-5, atol=1e-7)
  expected = loops.class_logits(A, kernel, variables["params"]["bias"])
  np.testing.assert_allclose(outputs["logits"][:, 0, 0], expected, rtol=1e-5)


def test_seeds_are_from_0_to_1_of_classes_that_are_there():
  rng = np.random.default_rng(1)
  M = np.maximum(rng.normal(size=(2, 3, 4, 5)), 0)
  M[0, ..., 0], M[1, ..., 1] = 0, M[1, ..., 1] * 1e-6 / M[1, ..., 1].max()
  y = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 1, 1]])
  found = class_maps.seeds(M[None].astype(np.float32), y[None].astype(np.float32))[0]
  np.testing.assert_allclose(found, loops.seed(M, y), rtol=1e-5)
  assert found.max((1, 2)).tolist()[0] == [0, 0, 1, 1, 0]
  np.testing.assert_allclose(found[1, ..., 1].max(), 0.1, rtol=1e-5)  # the floor of 1e-5


@pytest.mark.parametrize("background", [True, False])
def test_image_labels(background):
  y = np.full((3, 4, 5), 255, np.uint8)
  y[0, 1, 2:4], y[1, 0], y[1, 3, 4] = (0, 3), 2, 1
  found = class_maps.image_labels(jnp.asarray(y), CLASSES, background)
  np.testing.assert_array_equal(found, loops.image_labels(y, CLASSES, background))
  assert found.sum(1).tolist() == [2 - background, 2, 0]


def test_attention_looks_at_valid_places_only():
  rng = np.random.default_rng(2)
  F, S = rng.normal(size=(2, 3, 4, 5)), rng.random((2, 3, 4, 2))
  W = rng.normal(size=(2, 5, 3))
  v = rng.random((2, 3, 4)) < 0.7
  v[1] = False  # a picture of padding
  attended = jax.jit(class_maps.attended)
  found = attended(F @ W[1], F @ W[0], S, v)
  np.testing.assert_allclose(found, loops.attended(F, W[0], W[1], S, v), rtol=1e-5)
  other = np.where(v[..., None], S, S + 7)
  inside = np.asarray(attended(F @ W[1], F @ W[0], other, v))[0][v[0]]
  np.testing.assert_allclose(inside, found[0][v[0]], rtol=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
def test_fusion(groups):
  rng = np.random.default_rng(3)
  d, a = 5 * rng.normal(size=(2, 4, 3, 2, 5)), rng.normal(size=(2, 4, 3, 2, 5))
  options = {"share": 0.3, "temperature": 0.6}
  found = fusion.calibrated_fusion(d, a, groups=groups, **options)
  for k in range(2):
    parts = zip(np.split(d[k], groups), np.split(a[k], groups))
    expected = np.concatenate([loops.fused(x, y, 0.3, 0.6) for x, y in parts])
    np.testing.assert_allclose(found[k], expected, rtol=1e-5)
  gradient = jax.grad(
    lambda d: fusion.calibrated_fusion(d, a, groups=groups, **options)[0, 0, 0, 0, 0]
  )
  assert not np.any(gradient(jnp.asarray(d)))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_fusion_is_finite_for_small_temperatures_and_sure_logits(share):
  d, a = np.zeros((2, 1, 1, 1, 1, 4), np.float32)
  d[..., 1], a[..., 2] = 0.5, 1.0
  d[..., 0] = a[..., 0] = -1e3
  for T in (1e-6, 0.02, 0.5, 3.0):
    found = fusion.calibrated_fusion(d, a, share=share, temperature=T, groups=1)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-6)
    if T >= 0.02:
      np.testing.assert_allclose(
        found[0], loops.fused(*np.float64((d[0], a[0])), share, T), rtol=1e-4, atol=1e-30
      )
    if T == 1e-6 and share != 0.5:
      np.testing.assert_allclose(found.ravel(), np.eye(4)[1 if share else 2], atol=1e-6)


def test_classification_loss_is_finite_for_sure_logits():
  z, y = np.array([[[2.0, -1.0], [0.0, 3.0]]]), np.array([[1.0, 1.0], [0.0, 1.0]])
  run = lambda z: fusion.binary_cross_entropy(z, y, np.ones((2, 2), bool), 1)
  np.testing.assert_allclose(run(z), [loops.classification(z[0], y, y >= 0)], rtol=1e-6)
  np.testing.assert_allclose(run(1e4 * z), [1e4 / 4], rtol=1e-3)


def test_classification_learns_from_what_is_known():
  """By hand: softplus(z) - y z; groups of one picture each."""
  z, y = jnp.array([[[2.0, -1.0], [0.5, 3.0]]]), np.array([[1.0, 0.0], [0.0, 1.0]])
  run = lambda z, known, groups: fusion.binary_cross_entropy(z, y, np.array(known), groups)[0]
  a, b = np.log1p(np.exp([-2.0, -1.0])), np.log1p(np.exp([0.5, -3.0]))
  for known, groups, expected in (
    ([[1, 1], [1, 1]], 2, (a.mean() + b.mean()) / 2),
    ([[1, 1], [0, 0]], 1, a.mean()),
    ([[1, 1], [0, 0]], 2, a.mean() / 2),
    ([[1, 0], [1, 1]], 1, (a[0] + b.sum()) / 3),
    ([[1, 0], [1, 1]], 2, (a[0] + b.mean()) / 2),
  ):
    np.testing.assert_allclose(run(z, np.bool_(known), groups), expected, rtol=1e-6)
  value, gradient = jax.value_and_grad(run)(1e4 * z, np.zeros((2, 2), bool), 1)
  assert value == 0 and not np.any(gradient)


def test_known_image_labels():
  """Pictures: nothing labeled; all of it; padding ignored; a pixel of it ignored."""
  y, inside = np.full((4, 2, 3), 255, np.uint8), np.ones((4, 2, 3), bool)
  y[1], y[2:, :, :2], inside[2:, :, 2], y[3, 0, 0] = 1, 1, False, 255
  classes = class_maps.image_labels(jnp.asarray(y), 4, True)
  found = class_maps.known_labels(y, classes, inside)
  none, every = [False] * 3, [True] * 3
  assert found.tolist() == [none, every, every, [True, False, False]]
  np.testing.assert_array_equal(found, loops.known(y, np.asarray(classes), inside))
  found = class_maps.known_labels(y, classes)
  assert found.tolist() == [none, every, every, every]
  np.testing.assert_array_equal(found, loops.known(y, np.asarray(classes)))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["published", "stored"])
def test_padding_alone_teaches_nothing(case):
  _, c, b, params, stats = _compiled(case)
  b = {name: dict(stream) for name, stream in b.items()}
  for stream in b.values():
    stream["valid"] = np.zeros_like(stream["valid"])
    stream |= {k: np.full_like(v, 255) for k, v in stream.items() if k in ("label", "target")}
  method = small_network.method(c, classes=CLASSES)
  loss = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=6)
  (total, _), gradient = loss(params, stats, {}, b, KEY, 5, frozenset())
  assert total == 0 and not any(np.any(x) for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize("side", [1, 4, 5, 100])
def test_the_hole_is_cut_off_at_the_borders(side):
  u = np.concatenate([np.random.default_rng(4).random((20, 2)), [[0, 0], [0.999, 0.999]]])
  found = square_masks(u.astype(np.float32), height=9, width=12, side=side)
  np.testing.assert_array_equal(found, loops.hole(u, (9, 12), side))


def test_a_background_is_not_the_only_class():
  with pytest.raises(ConfigError, match="background=True: (.|\n)*background=False"):
    small_network.method(_config(), classes=1)
  assert small_network.method(_config(options={"background": False}), classes=1)


@pytest.mark.parametrize(
  "changes, options, said",
  [
    ({}, {"temperature": 0.0}, "method.pseudoseg.temperature=0.0: "),
    ({}, {"share": 1.5}, "method.pseudoseg.share=1.5: "),
    ({}, {"image_labels": "any"}, "image_labels='any': one of 'predicted', 'stored'"),
    ({}, {"image_labels": "stored"}, "image_labels='stored' needs a folder data.targets"),
    ({"cutmix": True}, {}, "cutmix=True: method.name='pseudoseg' does not read it"),
    ({"compat": ("reference_memory",)}, {}, "pseudoseg' knows hole_unattended"),
    ({"networks": 2, "family": True}, {}, "PseudoSeg takes one kind"),
  ],
)
def test_impossible_options(changes, options, said):
  c = _config({k: v for k, v in changes.items() if k != "family"}, options)
  if "family" in changes:
    c.model.family = ("backbone=tiny", "backbone=tiny")
  c.data.root, c.data.labeled, c.train.steps = "data/any", "labeled", 9
  with pytest.raises(ConfigError, match=said):
    rules.validate(c)
