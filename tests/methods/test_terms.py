"""Methods put together: terms on top of a loss, united phases, memories, what follows an update."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax import sharding
from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.methods import method as methods
from tests import small_network
from tests.methods import cases
from tests.methods.one_step import CLASSES, KEY, WIDTH, assembled, module


def _config(name, add=(), **changes):
  c = schema.default()
  c.method.name, c.method.add, c.method.weight = name, add, 1.7
  c.method.loss_group = 1
  c.method.pixel_contrast.update(
    {"weight": 0.7, "max_samples": 24, "max_views": 2, "warmup_steps": 3, **changes}
  )
  return c


def _value(config, phase=("contrast",), t=0):
  if config.method.add:
    phase = [f"pixel_contrast.{name}" for name in phase]
  method = small_network.method(config, classes=CLASSES, projection=WIDTH)
  params, stats = small_network.variables(method)
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
  batch = {stream.name: batch[stream.name] for stream in method.streams}
  call = jax.jit(method.loss, static_argnums=6)
  return method, call(params, stats, method.first_memory(), batch, KEY, t, frozenset(phase))


@pytest.mark.slow
def test_a_term_adds_its_own_loss():
  """Of CPS: the statistics of 'labeled' move first, so the contrast is that of its own method."""
  _, (plain, _) = _value(_config("cps"))
  _, (contrast, out) = _value(_config("pixel_contrast"))
  _, (both, both_out) = _value(_config("cps", ("pixel_contrast",)))
  supervised = sum(float(out.metrics[f"supervised_{k}"][0]) for k in range(2))
  term = float(contrast) - supervised
  np.testing.assert_allclose(0.7 * out.metrics["contrast"][0], term, rtol=1e-4)
  assert term > 0.1
  np.testing.assert_allclose(float(both), float(plain) + term, rtol=1e-5)
  assert {"cps", "contrast"} <= both_out.metrics.keys()


def test_phases_unite_and_a_term_waits_for_its_own():
  method, (waiting, out) = _value(_config("cps", ("pixel_contrast",)), phase=())
  _, (plain, _) = _value(_config("cps"), phase=())
  np.testing.assert_allclose(waiting, plain, rtol=1e-6)
  assert "contrast" not in out.metrics
  assert [method.phase(t) for t in (2, 3)] == [set(), {"pixel_contrast.contrast"}]
  c = _config("advsemiseg", ("pixel_contrast",))
  c.method.advsemiseg.semi_start, c.method.advsemiseg.adversarial_start = 2, 1
  found = small_network.method(c, classes=CLASSES, projection=WIDTH)
  assert [found.phase(t) for t in range(5)] == [
    set(),
    {"adversarial"},
    {"adversarial", "semi"},
    *[{"adversarial", "semi", "pixel_contrast.contrast"}] * 2,
  ]
  assert all(isinstance(found.phase(t), frozenset) for t in range(5))


@pytest.mark.slow
def test_the_memory_of_a_term_is_its_own():
  """It lies under the term's name and takes what the method of that name would put into it."""
  options = {"memory": 6, "memory_pixels": 2}
  alone, (_, out) = _value(_config("pixel_contrast", **options))
  added, (_, both) = _value(_config("cps", ("pixel_contrast",), **options))
  assert list(added.first_memory()) == list(both.memory) == ["pixel_contrast"]
  small_network.close(both.memory, out.memory, rtol=1e-4, atol=1e-5)
  moved = both.memory["pixel_contrast"]["pixel"] != added.first_memory()["pixel_contrast"]["pixel"]
  assert moved.any()


def test_each_part_sees_its_memory_only():
  def loss(c, s):
    s.memory = {"of": s.memory["of"] + 1}
    return jnp.float32(0)

  def term(c, s):
    s.memory = {"mine": s.memory["mine"] * 2}
    return jnp.float32(5)

  own = module(loss, memory=lambda c, nets: {"of": np.float32(3)})
  added = types.SimpleNamespace(term=term, memory=lambda c, nets: {"mine": np.float32(4)})
  method = methods.assemble(
    schema.default(),
    sharding.make_mesh(),
    small_network.family(CLASSES),
    modules={"own": own, "added": added},
  )
  memory = method.first_memory()
  assert memory == {"own": {"of": 3}, "added": {"mine": 4}}
  params, stats = small_network.variables(method)
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
  total, out = method.loss(params, stats, memory, batch, KEY, jnp.int32(0), frozenset())
  assert total == 5 and out.memory == {"own": {"of": 4}, "added": {"mine": 8}}


@pytest.mark.parametrize("every, calls", [(1, [0, 1, 2, 3, 4, 5]), (3, [2, 5])])
def test_what_follows_an_update_comes_every_k_steps(every, calls):
  """Compiled once for all steps; it sees the parameters after the update."""

  def after(c, t, params, stats, memory):
    return {"calls": memory["calls"].at[t].set(params["networks"]["x"].sum())}

  method = assembled(
    lambda c, s: jnp.float32(0),
    memory=lambda c, nets: {"calls": np.zeros(6, np.float32)},
    after=after,
    every=lambda c: every,
  )
  update = jax.jit(functools.partial(method.after_update))
  memory = jax.tree.map(jnp.asarray, method.first_memory())
  for t in range(6):
    params = {"networks": {"x": jnp.full(3, 1.0 + t)}}
    _, _, memory = update(params, {"networks": {}}, memory, jnp.int32(t))
  expected = np.zeros(6)
  expected[calls] = [3.0 * (1 + t) for t in calls]
  np.testing.assert_array_equal(memory["tested"]["calls"], expected)
  assert update._cache_size() == 1


TERMS = [name for name, found in contract.modules().items() if hasattr(found, "term")]
_FIRST = {changes["name"]: case for case, changes in reversed(cases.CASES.items())}
_ADDED = [(n, term) for n in contract.modules() for term in TERMS if n != term]


@pytest.mark.slow
@pytest.mark.parametrize("name, added", _ADDED)
def test_every_method_takes_every_term(name, added):
  """In every phase of the method, and the names that the term logs are the same in all of them."""
  c, found = cases.config(_FIRST[name]), contract.find(added)
  c.method.add = (added,)
  c.method.pixel_contrast.update({"warmup_steps": 0, "max_samples": 24, "max_views": 2})
  logged = []

  def term(c, s):
    before = set(s.metrics)
    total = found.term(c, s)
    logged.append(s.metrics.keys() - before)
    return total

  term = types.SimpleNamespace(**{**vars(found), "term": term})
  modules = {name: contract.find(name), added: term}
  method = small_network.method(c, classes=CLASSES, projection=WIDTH, modules=modules)
  variables = jax.eval_shape(lambda: small_network.variables(method))
  batch = cases.batch(method, 0)
  for fields in batch.values():
    fields["row"] = fields["index"]
  for phase in {method.phase(t) for t in range(cases.STEPS)}:
    loss = functools.partial(method.loss, phase=phase)
    jax.eval_shape(loss, *variables, method.first_memory(), batch, KEY, jnp.int32(0))
  assert logged[0] and all(names == logged[0] for names in logged)


def test_a_term_has_its_own_name_before_what_the_method_logs_too():
  def loss(c, s):
    s.log("a", 1.0)
    return jnp.float32(0)

  def term(c, s):
    for name in "abc":
      s.log(name, 2.0)
    return jnp.float32(0)

  own = module(loss, LOGS=("b",))
  method = methods.assemble(
    schema.default(),
    sharding.make_mesh(),
    small_network.family(CLASSES),
    modules={"own": own, "added": types.SimpleNamespace(term=term)},
  )
  params, stats = small_network.variables(method)
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
  _, out = method.loss(params, stats, {}, batch, KEY, jnp.int32(0), frozenset())
  assert out.metrics == {"a": (1, 1), "added/a": (2, 1), "added/b": (2, 1), "c": (2, 1)}


def test_methods_without_a_term_cannot_be_added():
  c = _config("cps", ("mean_teacher",))
  with pytest.raises(ConfigError, match="'mean_teacher' is no term; there are: .*pixel_contrast"):
    contract.terms(c)


@pytest.mark.parametrize("add", [("pixel_contrast",) * 2, ("cps",)])
def test_a_term_is_added_once_and_not_to_itself(add):
  c = _config("cps", add)
  with pytest.raises(ConfigError, match="a term is added once"):
    contract.terms(c)


@pytest.mark.slow
def test_the_phase_of_a_term_is_not_that_of_the_method():
  """AdvSemiSeg looks at unlabeled pictures in a phase of its own only."""
  c = _config("advsemiseg", ("pixel_contrast",), warmup_steps=0)
  c.method.advsemiseg.semi_start = c.method.advsemiseg.adversarial_start = 100
  method = small_network.method(c, classes=CLASSES, projection=WIDTH)
  params, stats = small_network.variables(method)
  names = ("labeled", "unlabeled", "ground_truth")
  batch = small_network.batch(names, size=(64, 64), classes=CLASSES)
  loss = jax.jit(method.loss, static_argnums=6)
  one, out = loss(params, stats, {}, batch, KEY, 0, frozenset())
  two, more = loss(params, stats, {}, batch, KEY, 0, method.phase(0))
  assert method.phase(0) == {"pixel_contrast.contrast"} and "contrast" in more.metrics
  np.testing.assert_allclose(
    float(two), float(one) + 0.7 * float(more.metrics["contrast"][0]), rtol=1e-5
  )
  small_network.close(more.stats, out.stats, rtol=1e-6)


def test_a_queue_that_is_not_kept_is_not_filled():
  def after(c, t, params, stats, memory):
    raise AssertionError("nothing is kept")

  method = assembled(lambda c, s: jnp.float32(0), memory=lambda c, nets: None, after=after)
  assert method.first_memory() == {}
  assert method.after_update({}, {}, {}, 0) == ({}, {}, {})


def test_a_name_is_logged_once():
  def loss(c, s):
    s.log("a", 1.0)
    s.log("a", 2.0)

  method = assembled(loss)
  params, stats = small_network.variables(method)
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
  with pytest.raises(ValueError, match="'a' is logged twice"):
    method.loss(params, stats, {}, batch, KEY, jnp.int32(0), frozenset())
