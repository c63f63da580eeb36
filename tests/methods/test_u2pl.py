"""U2PL against loops in numpy: both teacher passes, mixing, all terms, the memory, the teacher."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.ops.keys import example_keys, named_key
from semiseg_jax.ops.mixing import class_masks, half_boxes
from tests import small_network
from tests.methods import contrast_loops, given_masks
from tests.small_network import batch, copy, decode, encode, normalized, upsampled, variables

CLASSES, SIZE, ROWS, WIDTH, STEP, STEPS = 4, (8, 6), 4, 5, 3, 10
VALID = (1, 0, 7, 4)
KEY = jax.random.key(0)
PHASE = frozenset({"unlabeled"})
OWN = {
  "anchors": 7,
  "negatives": 3,
  "low_rank": 2,
  "high_rank": 4,
  "probability": 0.2,
  "memory": (9, 6),
  "entering": 4,
  "dropped": 50.0,
  "share": 40.0,
  "weight_contrast": 0.3,
}
# Title -> (keys of `method`, keys of its own block, whether this batch is mixed).
CASES = {
  "cutmix": ({}, {}, True),
  "not mixed": ({"loss_group": 2}, {}, False),
  "classmix": ({"loss_group": 2, "weight_ramp_steps": 6}, {"mix": "classmix"}, True),
  "published": (
    {"compat": contract.find("u2pl").COMPAT},
    {"mix": "cutout", "memory_dtype": "bfloat16", "low_rank": 1, "share": 50.0},
    True,
  ),
}


def _config(changes, options):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.model.projection.kind, c.train.steps = "u2pl", STEPS
  c.method.update({"name": "u2pl", "networks": 2, "weight": 1.7, **changes})
  c.method.u2pl.update({**OWN, **options})
  return c


def _method(c):
  return small_network.method(c, classes=CLASSES, projection=WIDTH)


def _batch(taken):
  b = batch(["labeled", "unlabeled"], size=SIZE, rows=ROWS, classes=CLASSES, valid=VALID)
  rng = np.random.default_rng(7)
  b["labeled"]["label"][0, :3] = 255
  inside = np.zeros(SIZE, bool)
  inside[VALID[0] : VALID[2], VALID[1] : VALID[3]] = True
  b["labeled"]["label"][:, ~inside] = 255
  u = b["unlabeled"]
  u["box"] = rng.random((ROWS, 3)).astype(np.float32)
  u["classes"] = rng.random((2, ROWS, CLASSES)).astype(np.float32)
  u["mixed"] = np.full(ROWS, 0.4 if taken else 0.6, np.float32)
  return b


def _softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


class Twin:
  """Network k in float64: the terms of the loss, the statistics and the rings after it."""

  def __init__(self, c, params, stats, b, k, mixes):
    self.m, self.o, self.k, self.b, self.mixes = c.method, c.method.u2pl, k, b, mixes
    self.params = {name: copy(tree, k) for name, tree in params.items()}
    self.stats = {name: copy(tree, k) for name, tree in stats.items()}
    self.x = {name: normalized(b[name]) for name in b}
    self.inside = np.zeros((ROWS, *SIZE), bool)
    self.inside[:, VALID[0] : VALID[2], VALID[1] : VALID[3]] = True
    self.y = b["labeled"]["label"].astype(int)
    if "padding_class_0" in self.m.compat:
      self.y[~self.inside] = 0
      self.inside[:] = True

  def run(self):
    self.teach()
    x = [self.x["labeled"], self.mixed]
    S, T = self.passed("networks", x), self.passed("teacher", x)
    size = self.m.loss_group or ROWS
    groups = [slice(start, start + size) for start in range(0, ROWS, size)]
    self.L_s = np.mean([self.ce(S["logits"][:ROWS][g], self.y[g]) for g in groups])
    left = 1 - STEP / STEPS
    p = _softmax(T["logits"][ROWS:])
    H = -(p * np.log(p + 1e-10)).sum(-1)
    self.L_u, low, high = [], np.zeros(H.shape, bool), np.zeros(H.shape, bool)
    for g in groups:
      has = self.Y[g] != 255
      bound = lambda q, g=g, has=has: np.percentile(H[g][has], q)
      kept = np.where(H[g] < bound(100 - self.o.dropped * left), self.Y[g], 255)
      count = (kept != 255).sum()
      self.L_u.append(self.ce(S["logits"][ROWS:][g], kept) * kept.size / count)
      low[g] = has & (H[g] <= bound(self.o.share * left))
      high[g] = has & (H[g] >= bound(100 - self.o.share * left))
    self.L_u = np.mean(self.L_u)
    self.L_c = self.contrast(S, T, low, high)

  def teach(self):
    e, _ = encode(self.params["teacher"], self.stats["teacher"], self.x["unlabeled"], "eval")
    z, _ = decode(self.params["teacher"], self.stats["teacher"], e, "eval")
    Y = np.where(self.inside, upsampled(z, SIZE).argmax(-1), 255)
    u = self.b["unlabeled"]
    M = np.zeros(Y.shape, bool)
    if self.mixes and self.o.mix == "classmix":
      M = ~np.asarray(class_masks(jnp.asarray(Y), jnp.asarray(u["classes"][self.k])))
    elif self.mixes:
      M = np.asarray(half_boxes(jnp.asarray(u["box"]), *SIZE))
    x = self.x["unlabeled"]
    following = [(i + 1) % ROWS for i in range(ROWS)]
    nothing = self.o.mix == "cutout"
    self.mixed = np.where(M[..., None], 0 if nothing else x[following], x)
    self.Y = np.where(M, 255 if nothing else Y[following], Y)

  def passed(self, net, x):
    """One pass in training: all pictures share batch statistics."""
    params = self.params[net]
    e, self.stats[net] = encode(params, self.stats[net], np.concatenate(x), "train")
    z, self.stats[net] = decode(params, self.stats[net], e, "train")
    out = params["projection"]["out"]
    E = e @ out["kernel"][0, 0] + out["bias"]
    E /= np.linalg.norm(E, axis=-1, keepdims=True)
    return {"logits": upsampled(z, SIZE), "small": z, "embedding": E}

  def ce(self, P, y):
    used = y != 255
    p = np.take_along_axis(_softmax(P), np.where(used, y, 0)[..., None], -1)[..., 0]
    return (-np.log(p) * used).sum() / used.sum()

  def contrast(self, S, T, low, high):
    known = self.y != 255
    flat = lambda a, b: np.concatenate([a, b])[:, ::2, ::2].ravel()
    p = _softmax(T["small"]).reshape(-1, CLASSES)
    E, E_T = (maps["embedding"].reshape(-1, WIDTH) for maps in (S, T))
    labeled = np.arange(len(E)) < len(E) // 2
    seen = E, E_T, p, flat(self.y, self.Y), flat(known, low), flat(known, high), labeled
    key = example_keys(KEY, "labeled/contrast", jnp.arange(ROWS))[0]
    key = jax.random.fold_in(key, self.k)

    def u(name, c):
      o = self.o
      shape = {
        "push": (o.entering,),
        "anchor": (o.anchors,),
        "negative": (o.anchors, o.negatives),
      }[name]
      own = named_key(key, name) if c is None else jax.random.fold_in(named_key(key, name), c)
      return np.asarray(jax.random.uniform(own, shape))

    sizes = [self.o.memory[0]] + [self.o.memory[1]] * (CLASSES - 1)
    self.rings = [contrast_loops.Ring(size, WIDTH) for size in sizes]
    quirks = self.m.compat
    return contrast_loops.u2pl(
      seen,
      self.rings,
      u,
      self.o,
      own_class="own_class_negatives" in quirks,
      shifted="shifted_classes" in quirks,
    )


def _run(c, b, phase):
  method = _method(c)
  params, stats = variables(method, scale=0.6)
  run = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=6)
  memory = method.first_memory()
  result = run(params, stats, memory, b, KEY, STEP, phase)
  return params, stats, memory["u2pl"], *result


def _moved(twins):
  return jax.tree.map(lambda *x: np.stack(x), *(t.stats for t in twins))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_loss_the_statistics_and_the_memory(case, monkeypatch):
  given_masks.use(monkeypatch)
  changes, options, mixes = CASES[case]
  c, b = _config(changes, options), _batch(mixes)
  rules.validate(_whole(c))
  params, stats, _, (total, out), gradient = _run(c, b, PHASE)
  twins = [Twin(c, params, stats, b, k, mixes) for k in range(2)]
  for t in twins:
    t.run()
  value = lambda name: np.divide(*out.metrics[name])
  wide = 5e-3 if c.method.u2pl.memory_dtype == "bfloat16" else 1e-4
  np.testing.assert_allclose(value("unlabeled"), np.mean([t.L_u for t in twins]), rtol=1e-4)
  np.testing.assert_allclose(value("contrast"), np.mean([t.L_c for t in twins]), rtol=wide)
  assert value("contrast") > 0.1
  ramp = 1.7 * (STEP / 6 if c.method.weight_ramp_steps else 1)
  expected = sum(t.L_s + ramp * t.L_u + 0.3 * t.L_c for t in twins)
  np.testing.assert_allclose(total, expected, rtol=wide)
  small_network.close(out.stats, _moved(twins), rtol=1e-4, atol=1e-5)
  rings = out.memory["u2pl"]
  for k, t in enumerate(twins):
    places = np.concatenate([ring.places for ring in t.rings])
    np.testing.assert_allclose(np.float32(rings["keys"][k]), places, atol=wide)
    assert rings["filled"][k].tolist() == [ring.filled for ring in t.rings]
  assert all(np.any(g) for g in jax.tree.leaves(gradient["networks"]))
  assert not any(np.any(g) for g in jax.tree.leaves(gradient["teacher"]))


def test_at_first_labeled_pictures_teach_and_the_teacher_only_looks(monkeypatch):
  """With auxiliary logits, which are half of the logits here."""

  class Decoder(small_network.Decoder):
    def __call__(self, features, mode):
      found = super().__call__(features, mode)
      return {**found, "aux_logits": found["logits"] / 2}

  monkeypatch.setattr(small_network, "Decoder", Decoder)
  c, b = _config({}, {"supervised_steps": 5}), _batch(True)
  params, stats, memory, (total, out), gradient = _run(c, b, frozenset())
  twins = [Twin(c, params, stats, b, k, True) for k in range(2)]
  halved = []
  for t in twins:
    S = t.passed("networks", [t.x["labeled"]])
    t.passed("teacher", [t.x["labeled"]])
    t.L_s, half = t.ce(S["logits"], t.y), t.ce(S["logits"] / 2, t.y)
    halved.append(half)
  np.testing.assert_allclose(total, sum(t.L_s for t in twins) + 0.4 * sum(halved), rtol=1e-4)
  np.testing.assert_allclose(out.metrics["auxiliary"][0], sum(halved), rtol=1e-4)
  small_network.close(out.stats, _moved(twins), rtol=1e-4, atol=1e-5)
  small_network.close(out.memory["u2pl"], memory, rtol=0, atol=0)
  assert not any(np.any(g) for g in jax.tree.leaves(gradient["teacher"]))


def test_who_the_teacher_is():
  c = _config({}, {"supervised_steps": 3, "copied_steps": 2})
  a = lambda c, t: float(contract.find("u2pl").nets(c)[1].decay(t))
  assert [a(c, t) for t in range(5)] == [0] * 5
  np.testing.assert_allclose([a(c, t) for t in (5, 6, 500)], [2 / 3, 3 / 4, 0.99], rtol=1e-6)
  c.method.compat = ("idle_teacher",)
  assert [a(c, t) for t in range(5)] == [1, 1, 0, 0, 0], "the copy is there at step 3"
  assert [contract.find("u2pl").phase(c, t) for t in (2, 3)] == [set(), PHASE]


def _whole(c):
  whole = schema.default()
  whole.update(c.to_dict())
  whole.data.root, whole.data.labeled = "data/any", "labeled"
  whole.train.batch_labeled = whole.train.batch_unlabeled = ROWS
  return whole


@pytest.mark.parametrize(
  "changes, options, words",
  [
    ({}, {"low_rank": 4}, "method.u2pl.low_rank=4: below high_rank=4"),
    ({}, {"mix": "mixup"}, "mix='mixup': one of 'none', 'cutout', 'cutmix', 'classmix'"),
    ({}, {"share": 51.0}, "share=51.0: a number, 0 or more, at most 50"),
    ({"loss_group": 3}, {}, "loss_group=3"),
    ({"compat": ("any",)}, {}, "u2pl' knows own_class_negatives, shifted_classes, padding_class_0"),
  ],
)
def test_impossible_options(changes, options, words):
  with pytest.raises(ConfigError, match=words):
    rules.validate(_whole(_config(changes, options)))


def test_what_it_needs_of_the_network():
  c = _whole(_config({}, {}))
  c.model.projection.kind = "none"
  with pytest.raises(ConfigError, match="u2pl needs embeddings, e.g. 'u2pl'"):
    rules.validate(c)
  c = _whole(_config({"networks": 1}, {}))
  c.model.deeplabv3plus.auxiliary = True
  rules.validate(c)
  c.method.name, c.method.u2pl = "supervised", schema.default().method.u2pl
  with pytest.raises(
    ConfigError, match="deeplabv3plus.auxiliary=True: .*'supervised' does not read"
  ):
    rules.validate(c)
  few = _method(_config({}, {"low_rank": 3, "high_rank": 4}))
  net = few.members["networks"][0]
  network = dataclasses.replace(net.stack.network, num_classes=3)
  stack = dataclasses.replace(net.stack, network=network)
  with pytest.raises(ConfigError, match="low_rank=3: none of 3 classes has that rank"):
    contract.find("u2pl").memory(few.config, {"networks": [dataclasses.replace(net, stack=stack)]})
