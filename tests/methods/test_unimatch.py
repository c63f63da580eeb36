"""FixMatch, UniMatch and UniMatch V2 against loops in numpy: passes, boxes, dropout, all terms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.ops import photometry
from semiseg_jax.ops.keys import example_keys
from tests import small_network
from tests.methods import given_masks
from tests.small_network import batch, copy, decode, encode, normalized, upsampled, variables

CLASSES, SIZE, ROWS, WIDTH, STEP = 4, (8, 6), 4, 5, 2
VALID = (1, 0, 7, 4)
KEY = jax.random.key(0)
APART = {"joint_statistics": False}
REVERSED = {"box_partner": "reversed"}
# Title -> (name, keys of `method`, keys of its own block).
CASES = {
  "fixmatch": ("fixmatch", {}, {}),
  "fixmatch, apart": ("fixmatch", APART | {"weight_ramp_steps": 5}, {}),
  "fixmatch, reversed": ("fixmatch", REVERSED, {}),
  "fixmatch, average": ("fixmatch", REVERSED, {"teacher": "average"}),
  "fixmatch, average, apart": ("fixmatch", APART, {"teacher": "average"}),
  "unimatch": ("unimatch", {}, {}),
  "unimatch, apart": ("unimatch", APART | REVERSED, {"feature_share": 0.3, "feature_p": 0.25}),
  "unimatch, groups": ("unimatch", {"loss_group": 2}, {}),
  "v2": ("unimatch_v2", REVERSED, {}),
  "v2, groups": ("unimatch_v2", REVERSED | {"loss_group": 2}, {}),
  "v2, partners": ("unimatch_v2", APART, {}),
  "v2, whole": ("unimatch_v2", REVERSED, {"drop": False}),
}


def _config(name, changes, options):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  strong = c.data.strong
  # Exact in whole numbers, and jitter and blur would double the time that a step compiles.
  strong.order, strong.gray_p = ("gray",), 0.5
  c.method.update({"name": name, "networks": 2, "weight": 1.7, "threshold": 0.5, **changes})
  c.method[name].update(options)
  return c


def _batch(method):
  b = batch([s.name for s in method.streams], size=SIZE, rows=ROWS, classes=CLASSES, valid=VALID)
  rng = np.random.default_rng(7)
  for k in (1, 2):
    box = np.zeros((ROWS, *SIZE), bool)
    for row in box[:-1]:  # none in the last
      y, x = rng.integers(0, 4, 2)
      row[y : y + 4, x : x + 3] = True
    b["unlabeled"][f"box {k}"] = box
  for stream in ("labeled", "unlabeled"):
    b[stream]["channels/0/high"] = rng.random((2, ROWS, WIDTH)).astype(np.float32)
  b["unlabeled"][f"channels/0/{WIDTH}"] = rng.random((2, ROWS, WIDTH)).astype(np.float32)
  b["unlabeled"]["whole/0"] = rng.random((2, ROWS)).astype(np.float32)
  b["labeled"]["label"][0, :3] = 255
  return b


def _softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


class Twin:
  """Network k in float64: the terms of the loss and the statistics after it."""

  def __init__(self, c, params, stats, b, k):
    self.m, self.o, self.c, self.b, self.k = c.method, c.method[c.method.name], c, b, k
    self.params = {name: copy(tree, k) for name, tree in params.items()}
    self.stats = {name: copy(tree, k) for name, tree in stats.items()}
    self.groups = ROWS // (self.m.loss_group or ROWS)
    self.x = {name: normalized(b[name]) for name in b}
    self.inside = np.zeros((ROWS, *SIZE), bool)
    self.inside[:, VALID[0] : VALID[2], VALID[1] : VALID[3]] = True
    getattr(self, self.m.name)()
    self.total = (self.L_x + self.weight() * self.L_u) / 2

  def weight(self):
    ramp = self.m.weight_ramp_steps
    return 1.7 * (STEP / ramp if ramp else 1)

  # The three methods.

  def fixmatch(self):
    if self.o.teacher == "average":
      self.taught_by_teacher()
      together = (("labeled", "s1"),)
      P = self.run({"labeled": self.x["labeled"], "s1": self.strong(1)}, together)
    else:
      self.taught_of_partner()
      P = self.run({k: self.x[k] for k in ("labeled", "unlabeled")}, (("labeled", "unlabeled"),))
      self.own = self.taught(P["unlabeled"])
      P |= self.run({"s1": self.strong(1)}, (("s1",),))
    self.L_x, self.L_u = self.supervised(P["labeled"]), self.term(P["s1"], self.target(1))
    self.parts = {"strong": self.L_u}

  def unimatch(self):
    self.taught_of_partner()
    names = ("labeled", "unlabeled")
    e = self.encoded({k: self.x[k] for k in names}, (names,))
    kept = names if self.m.joint_statistics else ("unlabeled",)
    p = self.o.feature_p
    for name in kept:
      u = self.b[name]["channels/0/high"][self.k]
      e[f"{name}_fp"] = e[name] * ((u >= p) / (1 - p))[:, None, None]
    P = self.decoded(e, (tuple(e),))
    P |= self.run({"s1": self.strong(1), "s2": self.strong(2)}, (("s1", "s2"),))
    self.own = self.taught(P["unlabeled"])
    s1, s2 = (self.term(P[f"s{k}"], self.target(k)) for k in (1, 2))
    fp = self.term(P["unlabeled_fp"], self.own)
    mu = self.o.feature_share
    self.L_x = self.supervised(P["labeled"])
    self.L_u = mu * fp + (1 - mu) / 2 * s1 + (1 - mu) / 2 * s2
    self.parts = {"strong": (s1 + s2) / 2, "features": fp}

  def unimatch_v2(self):
    self.taught_by_teacher()
    x = {"labeled": self.x["labeled"], "s1": self.strong(1), "s2": self.strong(2)}
    together = (("labeled",), ("s1", "s2"))
    e = self.encoded(x, together)
    if self.o.drop:
      b = (self.b["unlabeled"][f"channels/0/{WIDTH}"][self.k] < 0.5).astype(float)
      m1, m2 = 2 * b, 2 - 2 * b
      order = self.b["unlabeled"]["whole/0"][self.k]
      size = ROWS // self.groups
      for start in range(0, ROWS, size):
        for row in start + np.argsort(order[start : start + size])[: size // 2]:
          m1[row] = m2[row] = 1
      e["s1"], e["s2"] = e["s1"] * m1[:, None, None], e["s2"] * m2[:, None, None]
    P = self.decoded(e, together)
    s1, s2 = (self.term(P[f"s{k}"], self.target(k)) for k in (1, 2))
    self.L_x, self.L_u = self.supervised(P["labeled"]), (s1 + s2) / 2
    self.parts = {"strong": self.L_u}

  # Passes.

  def encoded(self, x, together):
    return self._passed(encode, "networks", x, together, "train")

  def decoded(self, e, together):
    low = self._passed(decode, "networks", e, together, "train")
    return {name: upsampled(z, SIZE) for name, z in low.items()}

  def run(self, x, together):
    return self.decoded(self.encoded(x, together), together)

  def _passed(self, half, net, x, together, bn):
    if not self.m.joint_statistics:
      together = tuple((name,) for name in x)
    found = {}
    for group in together:
      joined = np.concatenate([x[name] for name in group])
      out, self.stats[net] = half(self.params[net], self.stats[net], joined, bn)
      found |= dict(zip(group, np.split(out, len(group))))
    return found

  def evaluated(self, net, x):
    features, _ = encode(self.params[net], self.stats[net], x, "eval")
    return upsampled(decode(self.params[net], self.stats[net], features, "eval")[0], SIZE)

  # Who teaches.

  def taught(self, P):
    q = _softmax(P)
    return q.argmax(-1), q.max(-1), self.inside

  def taught_by_teacher(self):
    self.own = self.taught(self.evaluated("teacher", self.x["unlabeled"]))
    if self.m.box_partner != "reversed":
      self.theirs = self.taught(self.evaluated("teacher", self.x["unlabeled_mix"]))

  def taught_of_partner(self):
    if self.m.box_partner != "reversed":
      self.theirs = self.taught(self.evaluated("networks", self.x["unlabeled_mix"]))

  def turned(self, x):
    """The batch in reverse order within each group, row by row."""
    size = ROWS // self.groups
    return np.stack([x[i // size * size + size - 1 - i % size] for i in range(ROWS)])

  def target(self, k):
    M = self.b["unlabeled"][f"box {k}"]
    turned = self.m.box_partner == "reversed"
    theirs = [self.turned(a) for a in self.own] if turned else self.theirs
    return [np.where(M, a, b) for a, b in zip(theirs, self.own)]

  def strong(self, k):
    M = self.b["unlabeled"][f"box {k}"][..., None]
    own = self.view("unlabeled", k)
    turned = self.m.box_partner == "reversed"
    return np.where(M, self.turned(own) if turned else self.view("unlabeled_mix", k), own)

  def view(self, stream, k):
    keys = example_keys(KEY, f"{stream}/strong_{k}", jnp.arange(ROWS))
    image = photometry.strong_view(self.b[stream]["image"], keys, self.c)
    return normalized({**self.b[stream], "image": np.asarray(image)})

  # Terms.

  def supervised(self, P):
    y = self.b["labeled"]["label"]
    return self.mean(P, y, np.ones(y.shape), y != 255)

  def term(self, P, target):
    m, c, g = target
    return self.mean(P, m, (c >= self.m.threshold).astype(float), g)

  def mean(self, P, y, weight, counted):
    """The mean over the groups of sum(w CE) / pixels that count."""
    p = np.take_along_axis(_softmax(P), np.where(counted, y, 0)[..., None].astype(int), -1)[..., 0]
    ce = -np.log(p) * weight * counted
    parts = (np.split(a, self.groups) for a in (ce, counted))
    return np.mean([a.sum() / n.sum() for a, n in zip(*parts)])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_loss_and_the_statistics(case, monkeypatch):
  given_masks.use(monkeypatch)
  c = _config(*CASES[case])
  rules.validate(_whole(c))
  method = small_network.method(c, classes=CLASSES)
  params, stats = variables(method, scale=0.6)
  b = _batch(method)
  run = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=6)
  (total, out), gradient = run(params, stats, {}, b, KEY, STEP, frozenset())
  twins = [Twin(c, params, stats, b, k) for k in range(2)]
  value = lambda name: np.divide(*out.metrics[name])
  for name in twins[0].parts:
    np.testing.assert_allclose(value(name), np.mean([t.parts[name] for t in twins]), rtol=1e-4)
  np.testing.assert_allclose(total, sum(t.total for t in twins), rtol=1e-4)
  sure = [((t.own[1] >= 0.5) & t.inside).sum() / t.inside.sum() for t in twins]
  np.testing.assert_allclose(value("confident"), np.mean(sure), rtol=1e-5)
  assert 0.05 < np.mean(sure) < 0.95, "both sides of the threshold must be there"
  moved = jax.tree.map(lambda *x: np.stack(x), *(t.stats for t in twins))
  small_network.close(out.stats, moved, rtol=1e-4, atol=1e-5)
  assert all(np.any(g) for g in jax.tree.leaves(gradient["networks"]))
  assert not any(np.any(g) for g in jax.tree.leaves(gradient.get("teacher", {})))


def _whole(c):
  """The config with what a run needs besides."""
  whole = schema.default()
  whole.update(c.to_dict())
  whole.data.root, whole.data.labeled, whole.train.steps = "data/any", "labeled", 9
  whole.train.batch_labeled = whole.train.batch_unlabeled = ROWS
  return whole


@pytest.mark.parametrize("name, block", [("fixmatch", {"teacher": "average"}), ("unimatch_v2", {})])
def test_the_teacher_follows_with_its_statistics(name, block):
  method = small_network.method(_config(name, {}, block | {"decay": 0.6}), classes=CLASSES)
  params, stats = variables(method)
  for step, a in ((0, 0.0), (1, 0.5), (7, 0.6)):
    for tree, found in zip((params, stats), method.after_update(params, stats, {}, step)):
      expected = jax.tree.map(
        lambda t, s, a=a: a * np.float64(t) + (1 - a) * s, tree["teacher"], tree["networks"]
      )
      small_network.close(found["teacher"], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name, views", [("fixmatch", 1), ("unimatch", 2), ("unimatch_v2", 2)])
def test_streams(name, views):
  for partner, orders in (
    ("different_image", ["labeled", "unlabeled", "unlabeled_mix"]),
    ("same_image", ["labeled", "unlabeled", "unlabeled"]),
    ("reversed", ["labeled", "unlabeled"]),
  ):
    c = _config(name, {"box_partner": partner}, {})
    c.train.batch_labeled, c.train.batch_unlabeled = 5, 7
    streams = contract.find(name).streams(c)
    assert [s.order for s in streams] == orders
    assert [s.name for s in streams] == ["labeled", "unlabeled", "unlabeled_mix"][: len(orders)]
    assert [s.strong for s in streams] == [0, views, views][: len(orders)]
    assert [s.batch for s in streams] == [5, 7, 7][: len(orders)]


@pytest.mark.parametrize(
  "name, changes, options, words",
  [
    ("fixmatch", {"threshold": 1.5}, {}, "threshold=1.5: a number, 0 or more, at most 1"),
    ("fixmatch", {"box_p": -1.0}, {}, "box_p=-1.0: a number, 0 or more, at most 1"),
    ("unimatch", {"box_partner": "any"}, {}, "'any': one of 'different_image', 'same_image', 'rev"),
    ("fixmatch", {}, {"decay": 0.9}, "decay=0.9: method.fixmatch.teacher='student' does not read"),
    ("fixmatch", {}, {"teacher": "any"}, "teacher='any': one of 'student', 'average'"),
    ("unimatch", {}, {"feature_p": 1.0}, "feature_p=1.0: a number, 0 or more, below 1"),
    ("unimatch", {"cutmix": True}, {}, "cutmix=True: method.name='unimatch' does not read it"),
    ("unimatch_v2", {}, {"decay": 1.0}, "decay=1.0: a number, 0 or more, below 1"),
  ],
)
def test_impossible_options(name, changes, options, words):
  with pytest.raises(ConfigError, match=words):
    rules.validate(_whole(_config(name, changes, options)))


@pytest.mark.parametrize("name", ["fixmatch", "unimatch", "unimatch_v2"])
def test_uneven_groups_are_refused(name):
  c = _whole(_config(name, {"loss_group": 2}, {}))
  c.train.batch_unlabeled = 3
  with pytest.raises(ConfigError, match="method.loss_group=2"):
    rules.validate(c)
