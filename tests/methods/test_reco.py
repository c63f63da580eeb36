"""ReCo against loops in numpy: the teacher's labels, views, both losses on unlabeled pictures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import contract
from semiseg_jax.ops import photometry, regional_contrast, rescale
from semiseg_jax.ops.class_sets import sets_of
from semiseg_jax.ops.keys import example_keys, named_key
from semiseg_jax.ops.mixing import class_masks, half_boxes
from tests import small_network
from tests.methods import contrast_loops, given_masks
from tests.small_network import batch, copy, decode, encode, normalized, upsampled, variables

CLASSES, SIZE, ROWS, WIDTH, STEP = 4, (8, 6), 3, 5, 2
VALID = (1, 0, 7, 4)
KEY = jax.random.key(0)
OWN = {
  "queries": 7,
  "negatives": 5,
  "weak": 0.4,
  "strong": 0.6,
  "weight_contrast": 0.3,
  "temperature": 0.4,
}
CASES = {
  "classmix": ({}, {}),
  "cutmix": ({"weight_ramp_steps": 5}, {"mix": "cutmix", "scales": (1.0, 1.0), "flip": 0.0}),
  "cutout": ({"compat": contract.find("reco").COMPAT}, {"mix": "cutout"}),
}


def _config(changes, options):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.model.projection.kind = "reco"
  strong = c.data.strong
  strong.jitter_p, strong.blur_p, strong.gray_p = 0.0, 0.0, 0.5  # exact in whole numbers
  c.method.update({"name": "reco", "networks": 2, "weight": 1.7, **changes})
  c.method.reco.update({**OWN, **options})
  return c


def _batch():
  b = batch(["labeled", "unlabeled"], size=SIZE, rows=ROWS, classes=CLASSES, valid=VALID)
  rng = np.random.default_rng(7)
  b["labeled"]["label"][0, :3] = 255
  u = b["unlabeled"]
  u["box"] = rng.random((ROWS, 3)).astype(np.float32)
  u["classes"] = rng.random((2, ROWS, CLASSES)).astype(np.float32)
  u["geometry"] = rng.random((ROWS, 4)).astype(np.float32)
  return b


def _softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


@functools.partial(jax.jit, static_argnums=0)
def _rescaled(scales, u, image, Y, q, inside):
  """What tests/ops/test_rescale.py compares with Pillow."""
  low, high = scales
  scale, y, x = u[:, 0] * (high - low) + low, u[:, 1], u[:, 2]
  at = rescale.axis(scale, y, SIZE[0]), rescale.axis(scale, x, SIZE[1])
  maps = ((Y, IGNORE), (q, 0), (inside, None))
  return rescale.image_at(image, *at), *(rescale.map_at(m[None], *at, fill)[0] for m, fill in maps)


class Twin:
  """Network k in float64; `strong` makes strong views of pictures by their keys."""

  def __init__(self, c, params, stats, b, k, strong):
    self.changed, self.m, self.o, self.k, self.b = strong, c.method, c.method.reco, k, b
    self.params = {name: copy(tree, k) for name, tree in params.items()}
    self.stats = {name: copy(tree, k) for name, tree in stats.items()}
    self.y = b["labeled"]["label"].astype(int)
    self.inside = np.zeros((ROWS, *SIZE), bool)
    self.inside[:, VALID[0] : VALID[2], VALID[1] : VALID[3]] = True
    self.teach()
    x_l = self.strong("labeled", b["labeled"]["image"], self.inside)
    S = {"labeled": self.passed("networks", x_l), "mixed": self.passed("networks", self.mixed)}
    self.L_s = self.ce(S["labeled"]["logits"], self.y)[self.y != 255].mean()
    labeled = self.Y != 255
    w = (self.q >= self.o.strong).sum((1, 2)) / np.maximum(labeled.sum((1, 2)), 1)
    ce = self.ce(S["mixed"]["logits"], self.Y)
    self.L_u = (w[:, None, None] * ce)[labeled].mean()
    self.L_reco = self.contrast(S)

  def teach(self):
    P = self.passed("teacher", normalized(self.b["unlabeled"]))["logits"]
    p = _softmax(P)
    Y, q = np.where(self.inside, p.argmax(-1), 255), np.where(self.inside, p.max(-1), 0)
    if self.m.compat:
      q = np.floor(np.float32(q) * 255) / 255
    u = self.b["unlabeled"]
    views = _rescaled(tuple(self.o.scales), u["geometry"], u["image"], np.uint8(Y), q, self.inside)
    image, Y, q, inside = map(np.asarray, views)
    if self.o.mix == "classmix":
      M = ~np.asarray(jax.jit(class_masks)(Y, u["classes"][self.k]))
    else:
      M = np.asarray(half_boxes(jnp.asarray(u["box"]), *SIZE))
    Y = Y.astype(int)
    following = [(i + 1) % ROWS for i in range(ROWS)]
    take = lambda m, nothing: nothing if self.o.mix == "cutout" else m[following]
    mean = np.round(255 * small_network.MEAN).astype(np.uint8)
    image = np.where(M[..., None], take(image, mean), image)
    Y, q = np.where(M, take(Y, 255), Y), np.where(M, take(q, 0), q)
    inside = np.where(M, take(inside, True), inside)
    turns = u["geometry"][:, 3] < self.o.flip
    assert turns.any() == (self.o.flip > 0) and not turns.all()
    turned = lambda m: np.stack([x[:, ::-1] if turn else x for x, turn in zip(m, turns)])
    image, inside, self.Y, self.q = map(turned, (image, inside, Y, q))
    self.mixed = self.strong("unlabeled", image, inside)

  def strong(self, stream, image, inside):
    keys = example_keys(KEY, f"{stream}/strong_1", jnp.arange(ROWS))
    image = np.asarray(self.changed(image, keys))
    x = (image / 255.0 - small_network.MEAN) / small_network.STD
    return np.where(inside[..., None], x, 0)

  def passed(self, net, x):
    params = self.params[net]
    e, self.stats[net] = encode(params, self.stats[net], x, "train")
    z, self.stats[net] = decode(params, self.stats[net], e, "train")
    out = params["projection"]["out"]
    E = e @ out["kernel"][0, 0] + out["bias"]
    E /= np.linalg.norm(E, axis=-1, keepdims=True)
    return {"logits": upsampled(z, SIZE), "small": z, "embedding": E}

  def ce(self, P, y):
    at = np.where(y != 255, y, 0)[..., None]
    return -np.log(np.take_along_axis(_softmax(P), at, -1)[..., 0])

  def contrast(self, S):
    joined = lambda name, width: np.concatenate(
      [S[k][name].reshape(-1, width) for k in ("labeled", "mixed")]
    )
    flat = lambda a, b: np.concatenate([a, b])[:, ::2, ::2].ravel()
    valid = flat(self.y != 255, (self.q >= self.o.weak) & (self.Y != 255))
    seen = joined("embedding", WIDTH), flat(self.y, self.Y), valid
    key = jax.random.fold_in(example_keys(KEY, "labeled/contrast", jnp.arange(ROWS))[0], self.k)

    def u(name, c):
      shape = (self.o.queries,) if name == "query" else (self.o.queries, self.o.negatives)
      return np.asarray(jax.random.uniform(jax.random.fold_in(named_key(key, name), c), shape))

    return contrast_loops.reco((*seen, _softmax(joined("small", CLASSES))), u, self.o)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_loss_and_the_statistics(case, monkeypatch):
  given_masks.use(monkeypatch)
  c = _config(*CASES[case])
  rules.validate(_whole(c))
  method = small_network.method(c, classes=CLASSES, projection=WIDTH)
  params, stats = variables(method, scale=0.6)
  b = _batch()
  run = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=6)
  (total, out), gradient = run(params, stats, {}, b, KEY, STEP, frozenset())
  strong = jax.jit(lambda image, keys: photometry.strong_view(image, keys, c))
  twins = [Twin(c, params, stats, b, k, strong) for k in range(2)]
  value = lambda name: np.divide(*out.metrics[name])
  np.testing.assert_allclose(value("unlabeled"), np.mean([t.L_u for t in twins]), rtol=1e-4)
  np.testing.assert_allclose(value("contrast"), np.mean([t.L_reco for t in twins]), rtol=1e-4)
  assert value("unlabeled") > 0 and value("contrast") > 0
  ramp = 1.7 * (STEP / 5 if c.method.weight_ramp_steps else 1)
  expected = sum(t.L_s + ramp * t.L_u + 0.3 * t.L_reco for t in twins)
  np.testing.assert_allclose(total, expected, rtol=1e-4)
  moved = jax.tree.map(lambda *x: np.stack(x), *(t.stats for t in twins))
  small_network.close(out.stats, moved, rtol=1e-4, atol=1e-5)
  assert all(np.any(g) for g in jax.tree.leaves(gradient["networks"]))
  assert not any(np.any(g) for g in jax.tree.leaves(gradient["teacher"]))


def test_draws_of_negatives_follow_the_shares():
  y = jnp.asarray(np.repeat([0, 1, 3], 50), jnp.uint8)
  every = sets_of(y, jnp.ones(150, bool), 4)
  hard = sets_of(y, jnp.arange(150) % 2 == 0, 4)
  share = jnp.asarray([0.0, 0.2, 0.0, 0.8])
  queries, keys = map(np.asarray, regional_contrast.draw(KEY, 60, 50)(0, every, hard, share))
  assert (queries < 50).all() and (queries % 2 == 0).all() and len(set(queries)) > 15
  classes, counts = np.unique(np.asarray(y)[keys], return_counts=True)
  assert classes.tolist() == [1, 3]
  np.testing.assert_allclose(counts / 3000, [0.2, 0.8], atol=0.03)
  assert len(np.unique(keys)) == 100, "every pixel of both classes"


def test_pixels_of_which_the_student_is_sure():
  P = jnp.asarray([[[[[200.0, 0.0], [0.0, 0.0]]]]])
  Y, q = jnp.zeros((1, 1, 1, 2), jnp.uint8), jnp.ones((1, 1, 1, 2))
  ours, released = (regional_contrast.weighted_loss(P, Y, q, 0.9, quirk) for quirk in (False, True))
  np.testing.assert_allclose([ours[0], released[0]], [np.log(2) / 2, np.log(2)], rtol=1e-6)


def test_small_cross_entropies_are_not_zero():
  """Logits of 20 and 5.3: CE is log(1 + e^-14.7), lost in the difference of two numbers near 20."""
  P = jnp.asarray([[[[[20.0, 5.3], [20.0, 5.3], [30.0, 0.0]]]]])
  Y, q = jnp.asarray([[[[0, 255, 0]]]], jnp.uint8), jnp.ones((1, 1, 1, 3))
  run = lambda P, quirk: regional_contrast.weighted_loss(P, Y, q, 0.9, quirk)[0]
  ce = np.log1p(np.exp(-14.7))
  # w_b is 3 / 2; the last pixel has a cross entropy of 0.
  found = [run(P, quirk) for quirk in (False, True)]
  np.testing.assert_allclose(found, [1.5 * ce / 2, 1.5 * ce], rtol=0.2)
  gradient = jax.grad(run)(P, False)[0, 0, 0]
  assert gradient[0, 0] < 0 < gradient[0, 1] and not gradient[1].any()


def test_streams_and_the_teacher():
  c = _config({}, {})
  streams = contract.find("reco").streams(c)
  assert [(s.name, s.view, s.strong) for s in streams] == [
    ("labeled", "single", 1),
    ("unlabeled", "unscaled", 1),
  ]
  a = contract.find("reco").nets(c)[1].decay
  np.testing.assert_allclose([float(a(t)) for t in (0, 1, 500)], [0, 0.5, 0.99], rtol=1e-6)


def _whole(c):
  whole = schema.default()
  whole.update(c.to_dict())
  whole.data.root, whole.data.labeled, whole.train.steps = "data/any", "labeled", 9
  whole.train.batch_labeled = whole.train.batch_unlabeled = ROWS
  return whole


@pytest.mark.parametrize(
  "changes, options, words",
  [
    ({}, {"scales": (1.5, 0.5)}, "scales=.*the first not above the second"),
    ({}, {"mix": "mixup"}, "mix='mixup': one of 'none', 'cutout', 'cutmix', 'classmix'"),
    ({"cutmix": True}, {}, "cutmix=True: method.name='reco' does not read it"),
    ({"compat": ("any",)}, {}, "reco' knows eight_bits, positive_pixels"),
  ],
)
def test_impossible_options(changes, options, words):
  with pytest.raises(ConfigError, match=words):
    rules.validate(_whole(_config(changes, options)))


def test_it_needs_embeddings_and_the_whole_batch():
  c = _whole(_config({}, {}))
  c.model.projection.kind = "none"
  with pytest.raises(ConfigError, match="reco needs embeddings, e.g. 'reco'"):
    rules.validate(c)
  assert not contract.divisible(_config({}, {}))
