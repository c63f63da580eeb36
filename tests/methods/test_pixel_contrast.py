"""Pixel contrast as a method against loops in numpy: its start, what is compared, the memory."""

import jax
import numpy as np
import pytest

from semiseg_jax import stacks
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods import contract
from semiseg_jax.ops.keys import example_keys
from tests import small_network
from tests.methods import contrast_loops

CLASSES, ROWS, SIZE, WIDTH, TAU = 3, 4, (12, 8), 5, 0.2
SMALL = (SIZE[0] // small_network.STRIDE, SIZE[1] // small_network.STRIDE)


def _config(**options):
  c = schema.default()
  c.data.mean, c.data.std = tuple(small_network.MEAN), tuple(small_network.STD)
  c.model.projection.kind = options.pop("projection", "linear")
  changes = {"name": "pixel_contrast", "networks": 2, "loss_group": 2}
  c.method.update({**changes, **options.pop("method", {})})
  o = {
    "weight": 0.7,
    "max_samples": 23,
    "max_views": 4,
    "warmup_steps": 2,
    "temperature": TAU,
    **options,
  }
  c.method.pixel_contrast.update(o)
  return c


def _method(config):
  return small_network.method(config, classes=CLASSES, projection=WIDTH)


def _variables(method):
  """Statistics stay at 0 and 1."""
  params, _ = small_network.variables(method)
  _, stats = stacks.init(method.stacks["networks"], 0)
  return params, {"networks": stats}, method.first_memory()


def _batch():
  b = small_network.batch(["labeled"], rows=ROWS, size=SIZE, classes=CLASSES)
  b["labeled"]["label"][:, :3] = 255
  b["labeled"]["label"][0][b["labeled"]["label"][0] == 1] = 255
  return b


def _expected(memory, E, P, y, u):
  """The contrast of one network, the mean over the groups of two pictures."""
  found = []
  for first in range(0, ROWS, 2):
    g = slice(first, first + 2)
    flat = lambda a, g=g: a[g].reshape(2, -1)
    sizes = {"classes": CLASSES, "samples": 23, "views": 4}
    pixel, label = contrast_loops.anchors(flat(y), flat(P.argmax(-1) == y), flat(u), **sizes)
    x = E[g].reshape(-1, WIDTH)[pixel]
    if memory:
      bank = np.concatenate([memory["region"], memory["pixel"]], 1)
      m = bank.shape[1]
      entries, labels = bank.reshape(-1, WIDTH), np.repeat(np.arange(CLASSES), m)
      found.append(contrast_loops.pixel_contrast(x, label, entries, labels, own=False, tau=TAU))
    else:
      found.append(contrast_loops.pixel_contrast(x, label, x, label, own=True, tau=TAU))
  return np.mean(found)


def _seen(method, params, stats, stream):
  """Embeddings, logits (at the same stride) of all networks and labels that the contrast gets."""

  @jax.jit
  def run(p, s, x):
    return stacks.apply(method.stacks["networks"], p, s, {"labeled": x}, bn="train")[0]["labeled"]

  x = small_network.normalized(stream).astype(np.float32)
  outputs = run(params["networks"], stats["networks"], x)
  E, P = (np.asarray(outputs[name], np.float64) for name in ("embedding", "logits"))
  return E, P, stream["label"][:, :: small_network.STRIDE, :: small_network.STRIDE].astype(int)


def _drawn(stream, use):
  """Uniform numbers [N,B,h,w], from a key for each picture and from that for each network."""

  @jax.jit
  def draw(rows):
    keys = example_keys(jax.random.key(0), use, rows)
    of = lambda k: jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, k), SMALL))(keys)
    return [of(0), of(1)]

  return np.asarray(draw(stream["row"]))


def _loss(method):
  run = jax.jit(method.loss, static_argnums=6)
  return lambda params, stats, memory, b, t, phase: run(
    params, stats, memory, b, jax.random.key(0), t, frozenset(phase)
  )


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0, 6])
def test_the_contrast_starts_after_the_warm_up(memory):
  method = _method(_config(memory=memory, memory_pixels=3))
  assert [method.phase(t) for t in (0, 1, 2, 9)] == [set(), set(), {"contrast"}, {"contrast"}]
  params, stats, queues = _variables(method)
  b, run = _batch(), _loss(method)
  before, out = run(params, stats, queues, b, 0, ())
  assert "contrast" not in out.metrics
  supervised = sum(float(out.metrics[f"supervised_{k}"][0]) for k in range(2))
  np.testing.assert_allclose(before, supervised, rtol=1e-6)
  after, out = run(params, stats, queues, b, 2, ("contrast",))
  E, P, y = _seen(method, params, stats, b["labeled"])
  u, queues = _drawn(b["labeled"], "anchors"), queues.get("pixel_contrast", {})
  contrast = sum(
    _expected({name: np.asarray(x[k]) for name, x in queues.items()}, E[k], P[k], y, u[k])
    for k in range(2)
  )
  np.testing.assert_allclose(out.metrics["contrast"][0], contrast, rtol=1e-4)
  np.testing.assert_allclose(after, supervised + 0.7 * contrast, rtol=1e-4)


@pytest.mark.parametrize("phase", [(), ("contrast",)])
def test_the_memory_takes_each_picture_in_turn_also_while_warming_up(phase):
  m, f = 6, 3
  method = _method(_config(memory=m, memory_pixels=f))
  params, stats, queues = _variables(method)
  b = _batch()
  _, out = _loss(method)(params, stats, queues, b, 0, phase)
  every_E, _, y = _seen(method, params, stats, b["labeled"])
  every_u = _drawn(b["labeled"], "memory")
  for k in range(2):
    flat = lambda a: a.reshape(ROWS, SIZE[0] * SIZE[1] // small_network.STRIDE**2, *a.shape[3:])
    of_k = {name: x[k] for name, x in queues["pixel_contrast"].items()}
    drawn = (flat(every_E[k]), flat(y), flat(every_u[k]))
    expected = contrast_loops.remembered(of_k, *drawn, pixels=f)
    found = {name: np.asarray(x[k]) for name, x in out.memory["pixel_contrast"].items()}
    small_network.close(found, expected, atol=1e-5)
  at = expected["region_at"]
  assert (at[1], at[0]) == (3, 4), "a class that one picture lacks"


def test_the_memories_of_two_networks_differ():
  memory = _method(_config(memory=6, memory_pixels=3)).first_memory()["pixel_contrast"]
  assert memory["region"].shape == (2, CLASSES, 6, WIDTH)
  assert not np.allclose(*memory["region"])


def test_only_parts_that_share_nothing_can_be_accumulated():
  assert contract.divisible(_config())
  assert not contract.divisible(_config(method={"loss_group": 0}))
  assert not contract.divisible(_config(memory=6, memory_pixels=3))


def test_class_weights_are_those_of_the_cross_entropy():
  params, stats, _ = _variables(_method(_config()))
  b, run = _batch(), lambda c: _loss(_method(c))
  of = lambda weights: run(_config(class_weights=weights))(params, stats, {}, b, 0, ())[0]
  equal, plain = (float(of(w)) for w in ((2.0,) * CLASSES, ()))
  assert abs(float(of((1.0, 5.0, 1.0))) - plain) > 1e-3
  # As many valid pixels in every picture are not given: groups weigh alike either way.
  np.testing.assert_allclose(equal, plain, rtol=1e-6)


def test_class_weights_of_other_classes_are_refused():
  method = _method(_config(class_weights=(1.0, 1.0)))
  with pytest.raises(ConfigError, match=r"class_weights=\(1.0, 1.0\): 3, or"):
    _loss(method)(*_variables(method), _batch(), 0, ())


@pytest.mark.parametrize(
  "options, words",
  [
    ({"temperature": 0.0}, "temperature=0.0: a number, above 0"),
    ({"base_temperature": 0.0}, "base_temperature=0.0: a number, above 0"),
    ({"max_views": 0}, "max_views=0: a whole number, 1 or more"),
    ({"max_samples": 0}, "max_samples=0: a whole number, 1 or more"),
    ({"warmup_steps": -1}, "warmup_steps=-1: a whole number, 0 or more"),
    ({"memory": -1}, "memory=-1: a whole number, 0 or more"),
    ({"memory": 2, "memory_pixels": 0}, "memory_pixels=0: a whole number, 1 or more"),
    ({"memory": 2, "memory_pixels": 3}, "memory_pixels=3: 1 to memory=2"),
    ({"class_weights": (1.0, -1.0, 1.0)}, "class_weights=.*each 0 or more"),
    (
      {"class_weights": (1.0,) * 3, "method": {"supervised_loss": "ohem"}},
      "class_weights=.*: method.supervised_loss='ohem' does not read it",
    ),
    (
      {"class_weights": (1.0,) * 3, "method": {"name": "cps", "add": ("pixel_contrast",)}},
      r"class_weights=.*: method.name='cps'.* does not read it",
    ),
    ({"method": {"compat": ("reference_memory",)}}, "needs method.pixel_contrast.memory"),
    ({"projection": "none"}, "needs embeddings, e.g. 'convmlp'"),
    ({"projection": "u2pl"}, "kind='u2pl': pixel_contrast needs unit length"),
  ],
)
def test_impossible_options(options, words):
  with pytest.raises(ConfigError, match=words):
    rules.validate(_config(**options))
