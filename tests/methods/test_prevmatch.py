"""PrevMatch against loops in numpy: the queue, the ensemble, both weightings, the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import prevmatch
from semiseg_jax.ops.ensembles import draw_ensemble
from tests import small_network
from tests.methods import given_masks
from tests.methods import test_unimatch as uni
from tests.small_network import copy, variables

K, M, STEPS = 3, 2, 10
PREVIOUS = frozenset({"previous"})
# Title -> (keys of `method`, keys of `method.prevmatch`).
CASES = {
  "threshold": ({}, {}),
  "always M": ({"loss_group": 2}, {"random_models": False, "feature_share": 0.3}),
  "reversed": ({"box_partner": "reversed"}, {}),
  "confidence": ({}, {"weighting": "confidence"}),
  "summed": ({"compat": ("summed_confidence",), "loss_group": 2}, {"weighting": "confidence"}),
}


def _config(changes, options):
  c = schema.default()
  c.train.steps = STEPS
  own = {"queue": K, "models": M, "every": 2, "threshold_previous": 0.4} | options
  if own.get("weighting") == "confidence":
    del own["threshold_previous"]
  base = uni._config("prevmatch", changes, own)
  c.update(base.to_dict())
  c.train.steps = STEPS
  return c


class Twin(uni.Twin):
  """Network k with its earlier ones, `queue` [(params, stats)], and the draw u."""

  def __init__(self, c, params, stats, b, k, queue, u):
    self.queue, self.draw = queue, u
    super().__init__(c, params, stats, b, k)
    t = uni.STEP / STEPS
    self.lambda_t = 2 * t if t < 0.5 else 2 - 2 * t
    taught = self.L_x + self.weight() * self.L_u + self.lambda_t * self.S_prev
    self.total = taught / (2 + self.lambda_t)

  def prevmatch(self):
    self.P = {}
    self.unimatch()
    P = self.P
    self.previous()
    average = self.o.weighting == "confidence"
    term = self.averaged if average else self.term_previous
    s1, s2 = (term(P[f"s{k}"], self.target(k)) for k in (1, 2))
    fp, mu = term(P["unlabeled_fp"], self.own), self.o.feature_share
    self.S_prev = mu * fp + (1 - mu) / 2 * (s1 + s2)

  def decoded(self, e, together):
    found = super().decoded(e, together)
    self.P |= found
    return found

  def previous(self):
    """Who teaches from here on: the ensemble's weighted logits."""
    n = 1 + int(self.draw[0] * M) if self.o.random_models else M
    n = min(n, len(self.queue))
    order = np.argsort(self.draw[1 : 1 + len(self.queue)])[:n]
    a = -np.log(1 - self.draw[1 + K : 1 + K + n])
    own = self.params, self.stats
    sums = {}
    for weight, i in zip(a / a.sum(), order):
      params, stats = self.queue[i]
      self.params, self.stats = ({"networks": copy(x, self.k)} for x in (params, stats))
      for name in ("unlabeled", "unlabeled_mix"):
        if name in self.x:
          P = self.evaluated("networks", self.x[name])
          sums[name] = sums.get(name, 0) + weight * P
    self.params, self.stats = own
    self.own = self.taught(sums["unlabeled"])
    if "unlabeled_mix" in sums:
      self.theirs = self.taught(sums["unlabeled_mix"])

  def term_previous(self, P, target):
    m, c, g = target
    return self.mean(P, m, (c >= self.o.threshold_previous).astype(float), g)

  def averaged(self, P, target):
    m, c, g = target
    p = uni._softmax(P)
    ce = -np.log(np.take_along_axis(p, m[..., None].astype(int), -1)[..., 0])
    found, size = [], uni.ROWS // self.groups
    for start in range(0, uni.ROWS, size):
      rows = range(start, start + size)
      a = [c[b][g[b]].mean() for b in rows]
      if self.m.compat:
        total = sum(ce[b].sum() for b in rows) * sum(a)
      else:
        total = sum(ce[b][g[b]].sum() * a[b - start] for b in rows)
      found.append(total / g[start : start + size].sum())
    return np.mean(found)


def _queue(method, entries):
  """The memory after so many entries, and what it must hold, in the order of its places."""
  networks = [variables(method, scale=0.6, seed=10 + i) for i in range(entries)]
  memory = jax.tree.map(jnp.asarray, method.first_memory()["prevmatch"])
  enter = jax.jit(lambda *args: prevmatch.after(method.config, 0, *args))
  for params, stats in networks:
    memory = enter(params, stats, memory)
  places = [None] * min(entries, K)
  for i, (params, stats) in enumerate(networks):
    places[i % K] = (params["networks"], stats["networks"])
  return memory, places


@pytest.mark.parametrize("entries", [1, 2, 5])
def test_the_oldest_entry_leaves(entries):
  method = small_network.method(_config({}, {}), classes=uni.CLASSES)
  memory, places = _queue(method, entries)
  assert memory["entries"] == entries
  for i, (params, stats) in enumerate(places):
    for name, tree in (("params", params), ("stats", stats)):
      held = jax.tree.map(lambda q, i=i: np.asarray(q)[i], memory[name]["networks"])
      small_network.close(held, tree, rtol=0, atol=0)


def test_entries_come_every_so_many_updates():
  method = small_network.method(_config({}, {"every": 3}), classes=uni.CLASSES)
  params, stats = variables(method)
  memory, found = method.first_memory(), []
  for t in range(7):
    *_, memory = method.after_update(params, stats, memory, t)
    found.append((int(memory["prevmatch"]["entries"]), "previous" in method.phase(t)))
  assert [n for n, _ in found] == [0, 0, 1, 1, 1, 2, 2]
  assert [active for _, active in found] == [False] * 3 + [True] * 4  # the step after the entry


@pytest.mark.slow
@pytest.mark.parametrize("case, entries", [("threshold", 1), *((case, 5) for case in CASES)])
def test_the_loss(case, entries, monkeypatch):
  given_masks.use(monkeypatch)
  c = _config(*CASES[case])
  method = small_network.method(c, classes=uni.CLASSES)
  params, stats = variables(method, scale=0.6)
  b = uni._batch(method)
  u = np.random.default_rng(3).random((uni.ROWS, 1 + K + M)).astype(np.float32)
  u[0, 0] = 0.7  # n = 2 where there are two
  b["unlabeled"]["previous"] = u
  memory, places = _queue(method, entries)
  run = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=6)
  args = (params, stats, {"prevmatch": memory}, b, uni.KEY, uni.STEP)
  (total, out), gradient = run(*args, PREVIOUS)
  twins = [Twin(c, params, stats, b, k, places, np.float64(u[0])) for k in range(2)]
  value = lambda name: np.divide(*out.metrics[name])
  S_prev = np.mean([t.S_prev for t in twins])
  assert S_prev > 1e-2
  np.testing.assert_allclose(value("previous"), S_prev, rtol=1e-4)
  np.testing.assert_allclose(value("previous_weight"), twins[0].lambda_t, rtol=1e-6)
  assert value("previous_networks") == min(entries, 2)
  np.testing.assert_allclose(total, sum(t.total for t in twins), rtol=1e-4)
  moved = jax.tree.map(lambda *x: np.stack(x), *(t.stats for t in twins))
  small_network.close(out.stats, moved, rtol=1e-4, atol=1e-5)
  small_network.close(out.memory["prevmatch"], memory, rtol=0, atol=0)
  assert all(np.any(g) for g in jax.tree.leaves(gradient["networks"]))
  if entries == 1:
    (before, _), _ = run(*args, frozenset())
    expected = sum((t.L_x + t.weight() * t.L_u) / 2 for t in twins)
    np.testing.assert_allclose(before, expected, rtol=1e-4)


def test_draws_of_an_ensemble():
  draw = lambda u, filled, fixed=True: draw_ensemble(
    u, filled, places=4, most=3, random_number=fixed
  )
  u = np.random.default_rng(0).random((4000, 8)).astype(np.float32)
  places, a = jax.vmap(lambda u: draw(u, 4))(u)
  n = np.asarray((a > 0).sum(1))
  np.testing.assert_allclose(np.bincount(n, minlength=4)[1:] / 4000, 1 / 3, atol=0.03)
  np.testing.assert_allclose(a.sum(1), 1, rtol=1e-5)
  assert all(len(set(p)) == 3 for p in np.asarray(places))
  first = np.bincount(np.asarray(places)[:, 0], minlength=4) / 4000
  np.testing.assert_allclose(first, 1 / 4, atol=0.03)
  of_three = np.asarray(a)[n == 3]
  np.testing.assert_allclose(of_three.mean(0), 1 / 3, atol=0.03)
  np.testing.assert_allclose(of_three.var(0), 1 / 18, atol=0.01)  # of Dirichlet(1, 1, 1)
  places, a = jax.vmap(lambda u: draw(u, 2))(u)
  used = np.asarray(a) > 0
  assert set(np.asarray(places)[used]) == {0, 1} and used.sum(1).max() == 2
  assert not np.any(draw(jnp.asarray(u[0]), 0)[1])
  assert (np.asarray(jax.vmap(lambda u: draw(u, 4, False))(u)[1]) > 0).all()


@pytest.mark.parametrize(
  "changes, options, said",
  [
    ({}, {"models": 4}, "method.prevmatch.models=4: at most queue=3"),
    ({"compat": ("summed_confidence",)}, {}, "needs method.prevmatch.weighting='confidence'"),
    ({}, {"every": 0}, "method.prevmatch.every=0: "),
    ({}, {"every": 9}, "method.prevmatch.every=9: the queue is empty.*train.steps=9"),
    ({"loss_group": 3}, {}, "loss_group=3"),
  ],
)
def test_impossible_options(changes, options, said):
  with pytest.raises(ConfigError, match=said):
    rules.validate(uni._whole(_config(changes, options)))
