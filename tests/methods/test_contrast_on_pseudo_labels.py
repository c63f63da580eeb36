"""Pixel contrast on pseudo-labeled pictures against loops in numpy; what methods teach."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cps_toy
from semiseg_jax import sharding, train
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods import contract
from semiseg_jax.methods import method as methods
from semiseg_jax.ops.confidence import of_others
from semiseg_jax.ops.keys import example_keys
from tests import small_network
from tests.methods import cases, contrast_loops
from tests.methods.one_step import KEY, assembled, module

CLASSES, ROWS, SIZE, WIDTH, TAU = 3, 4, (12, 8), 5, 0.2
SAMPLES, VIEWS, M, F = 37, 3, 9, 2
STRIDE = small_network.STRIDE
SMALL = (SIZE[0] // STRIDE, SIZE[1] // STRIDE)
PIXELS = SMALL[0] * SMALL[1]


def _config(**options):
  c = schema.default()
  c.method.networks, c.method.add = 2, ("pixel_contrast",)
  c.method.pixel_contrast.update(
    {"weight": 0.7, "max_samples": SAMPLES, "max_views": VIEWS, "temperature": TAU, "group": 2}
    | {"memory_pixels": F, "on": "all", "warmup_steps": 0}
    | options
  )
  return c


def _batch():
  b = small_network.batch(["labeled", "unlabeled"], rows=ROWS, size=SIZE, classes=CLASSES)
  b["labeled"]["label"][:, :3] = IGNORE
  rng = np.random.default_rng(1)
  Y = rng.integers(0, CLASSES, (2, ROWS, *SIZE)).astype(np.uint8)
  Y[rng.random(Y.shape) < 0.3] = IGNORE
  Y[0, 1] = IGNORE  # a picture that teaches one of the networks nothing
  return b, Y


def _run(c, b, Y):
  """The term alone: its value, gradient, Outcome, and what the networks saw."""
  return _compiled(c)(b, Y)


def _compiled(c):
  """That as a function of batch and labels."""
  seen, taught = {}, {}

  def loss(c, s):
    x = {"labeled": s.x("labeled"), "mix": jnp.flip(s.x("unlabeled"), 2)}
    P = s.net("networks", x)
    s.teaches("mix", taught["mix"])
    seen.update(s.seen["networks"])
    return 0 * sum(p.sum() for p in P.values())

  parts = {"own": module(loss, TEACHES=True), "pixel_contrast": contract.find("pixel_contrast")}
  family = small_network.family(CLASSES, WIDTH)
  method = methods.assemble(c, sharding.make_mesh(), family, modules=parts)
  params, stats = small_network.variables(method)
  memory, phase = method.first_memory(), method.phase(0)

  @jax.jit
  def run(params, memory, b, Y):
    taught["mix"] = Y

    def value(params):
      total, out = method.loss(params, stats, memory, b, KEY, jnp.int32(0), phase)
      return total, (out, dict(seen))

    return jax.value_and_grad(value, has_aux=True)(params)

  def of_batch(b, Y):
    (value, (out, maps)), gradient = jax.device_get(run(params, memory, b, Y))
    return value, gradient, out, maps, memory

  return of_batch


def _drawn(name):
  """u [N,B,P] by a key for each picture and from that one for each network."""
  keys = example_keys(KEY, name, jnp.arange(ROWS))
  one = lambda k: jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, k), SMALL))(keys)
  return np.asarray(jax.jit(lambda: jnp.stack([one(0), one(1)]))()).reshape(2, ROWS, PIXELS)


def _pools(b, Y, maps, use):
  """E, right, y, u of every network and pool: 2 labeled pictures, then 2 others."""
  y = np.broadcast_to(b["labeled"]["label"], Y.shape)
  parts = []
  for name, labels, drawn in (("labeled", y, use), ("mix", Y, f"unlabeled/{use}/mix")):
    flat = lambda a: a.reshape(2, ROWS, PIXELS, *a.shape[4:])
    labels = flat(labels[:, :, ::STRIDE, ::STRIDE]).astype(int)
    E, P = (flat(np.float64(maps[name][key])) for key in ("embedding", "logits"))
    parts.append((E, P.argmax(-1) == labels, labels, _drawn(drawn)))
  for k in range(2):
    yield [
      [np.concatenate([a[k, 2 * g : 2 * g + 2], c[k, 2 * g : 2 * g + 2]]) for a, c in zip(*parts)]
      for g in range(2)
    ]


@pytest.mark.slow
def test_a_pool_has_pictures_of_both_kinds():
  b, Y = _batch()
  value, _, out, maps, _ = _run(_config(), b, Y)
  total, sizes = 0, {"classes": CLASSES, "samples": SAMPLES, "views": VIEWS}
  picked = 0
  for pools in _pools(b, Y, maps, "anchors"):
    losses = []
    for E, right, y, u in pools:
      pixel, label = contrast_loops.anchors(y, right, u, **sizes)
      x = E.reshape(-1, WIDTH)[pixel]
      losses.append(contrast_loops.pixel_contrast(x, label, x, label, own=True, tau=TAU))
      picked += len(x)
    total += np.mean(losses)
  np.testing.assert_allclose(value, 0.7 * total, rtol=1e-4)
  assert out.metrics["contrast_anchors"] == (picked, 2)


@pytest.mark.slow
def test_their_memory_takes_the_pictures_of_a_pool_in_turn():
  b, Y = _batch()
  _, _, out, maps, first = _run(_config(memory=M), b, Y)
  for k, pools in enumerate(_pools(b, Y, maps, "memory")):
    queues = {name: x[k] for name, x in first["pixel_contrast"].items()}
    for E, _, y, u in pools:
      queues = contrast_loops.remembered(queues, E, y, u, pixels=F)
    found = {name: x[k] for name, x in out.memory["pixel_contrast"].items()}
    small_network.close(found, queues, atol=1e-5)


@pytest.mark.parametrize("memory", [0, pytest.param(M, marks=pytest.mark.slow)])
def test_pseudo_labels_that_are_all_ignored_add_nothing(memory):
  b, Y = _batch()
  Y[:] = IGNORE
  run = _compiled(_config(memory=memory))
  every, gradient, *_ = run(b, Y)
  alone, expected, *_ = _run(_config(memory=memory, on="labeled"), b, Y)
  np.testing.assert_allclose(every, alone, rtol=1e-6)
  small_network.close(gradient, expected, atol=1e-6)
  b["labeled"]["label"][:] = IGNORE
  every, gradient, *_ = run(b, Y)
  assert every == 0 and not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_a_class_without_positives_gives_no_nan():
  b, Y = _batch()
  b["labeled"]["label"][:], Y[:], Y[:, :, : SIZE[0] // 2] = IGNORE, IGNORE, 0
  Y[:, 1:] = IGNORE
  value, gradient, *_ = _run(_config(max_views=1), b, Y)  # one anchor
  assert value == 0 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_others_teach_what_they_agree_on():
  Y = jnp.asarray([[[[0, 1, IGNORE]]], [[[0, 2, 1]]], [[[0, 2, 1]]]], jnp.uint8)
  np.testing.assert_array_equal(of_others(Y[:2])[:, 0, 0], [[0, 2, 1], [0, 1, IGNORE]])
  expected = [[0, 2, 1], [0, IGNORE, IGNORE], [0, IGNORE, IGNORE]]
  np.testing.assert_array_equal(of_others(Y)[:, 0, 0], expected)


def _taught_cross_entropy(c, s):
  """A term that logs, by stream and network, CE against what is taught: its sum and its pixels."""
  for name, (Y, _) in s.taught.items():
    seen = s.seen["networks"][name]  # PseudoSeg's labels have the stride of the head
    whole = Y.shape[2] == seen["full"].shape[2]
    log_p = jax.nn.log_softmax(seen["full" if whole else "logits"])
    at = jnp.minimum(Y, log_p.shape[-1] - 1)[..., None].astype(int)
    each = jnp.where(Y != IGNORE, -jnp.take_along_axis(log_p, at, -1)[..., 0], 0)
    s.log(f"sum/{name}", each.sum((1, 2, 3)))
    s.log(f"count/{name}", (Y != IGNORE).sum((1, 2, 3)))
  return jnp.float32(0)


# Case -> the metric of what its networks learn on taught pixels, of (sums, counts, pixels).
LOGGED = {
  "cps, cutmix": ("cps", lambda found, pixels: sum((t / n).sum() for t, n in found)),
  "fixmatch": ("strong", lambda found, pixels: sum(t.sum() / pixels for t, _ in found)),
  "unimatch": ("strong", lambda found, pixels: sum(t.sum() / pixels for t, _ in found) / 2),
  "self_training": (
    "pseudo_supervised",
    lambda found, pixels: sum(t.sum() / n.sum() * 2 for t, n in found),
  ),
  "advsemiseg": ("semi", lambda found, pixels: sum((t / n).sum() for t, n in found)),
  "u2pl": ("unlabeled", lambda found, pixels: sum((t / n * pixels / n).sum() for t, n in found)),
}
TEACHING = sorted(n for n, found in contract.modules().items() if getattr(found, "TEACHES", False))


def _method_with_spy(case):
  c = cases.config(case)
  parts = contract.parts(c) | {"spy": types.SimpleNamespace(term=_taught_cross_entropy)}
  method = small_network.method(c, projection=WIDTH, modules=parts)
  batch = small_network.batch([s.name for s in method.streams], size=(32, 32), rows=cases.ROWS)
  for stream in method.streams:
    if stream.targets:
      batch[stream.name] |= cases.stored(batch[stream.name]["label"], 0)
    if stream.view == "pair":
      batch[stream.name] |= cases.second_crop(batch[stream.name])
  return method, batch


@pytest.mark.slow
@pytest.mark.parametrize("case", LOGGED)
def test_what_is_taught_is_what_the_networks_learn(case):
  """The loss that a method logs is the cross entropy of what it says that it teaches."""
  method, batch = _method_with_spy(case)
  params, stats = small_network.variables(method)
  phase, run = method.phase(cases.STEPS - 1), jax.jit(method.loss, static_argnums=6)
  _, out = run(params, stats, method.first_memory(), batch, KEY, 0, phase)
  names = [name.removeprefix("sum/") for name in out.metrics if name.startswith("sum/")]
  found = [(out.metrics[f"sum/{k}"][0], out.metrics[f"count/{k}"][0]) for k in names]
  name, of = LOGGED[case]
  np.testing.assert_allclose(
    out.metrics[name][0], of(found, batch["unlabeled"]["label"].size), rtol=1e-4
  )


@pytest.mark.slow
@pytest.mark.parametrize("name", TEACHING)
def test_every_method_that_teaches_does_so_on_what_its_networks_saw(name):
  case = next(case for case, changes in cases.CASES.items() if changes["name"] == name)
  method, batch = _method_with_spy(case)
  variables = jax.eval_shape(lambda: small_network.variables(method))
  args = (*variables, method.first_memory(), batch, KEY, jnp.int32(0))
  phase = method.phase(cases.STEPS - 1)
  _, out = jax.eval_shape(lambda *args: method.loss(*args, phase), *args)
  assert any(name.startswith("sum/") for name in out.metrics)


@pytest.mark.slow
def test_both_crops_of_a_pair_are_taught_the_classes_that_are_sure():
  """CAC: class and probability of the classifier, above gamma, on the grid of the embeddings."""
  c, seen = cases.config("cac"), {}

  def spy(c, s):
    for name in ("unlabeled", "unlabeled_2"):
      seen[name] = (s.seen["networks"][name]["logits"], s.taught[name], s.inside(name))
    return jnp.float32(0)

  parts = contract.parts(c) | {"spy": types.SimpleNamespace(term=spy)}
  method = small_network.method(c, projection=WIDTH, modules=parts)
  batch = cases.batch(method, 0)
  batch["unlabeled"]["row"] = np.arange(len(batch["unlabeled"]["image"]))
  batch["labeled"]["row"] = np.arange(len(batch["labeled"]["image"]))
  phase, args = method.phase(cases.STEPS - 1), (KEY, jnp.int32(0))

  @jax.jit
  def run(params, stats):
    method.loss(params, stats, method.first_memory(), batch, *args, phase)
    return {name: (logits, taught.Y, inside) for name, (logits, taught, inside) in seen.items()}

  for logits, Y, inside in run(*small_network.variables(method)).values():
    p = np.exp(np.float64(logits) - np.log(np.exp(np.float64(logits)).sum(-1, keepdims=True)))
    expected = np.where(p.max(-1) > c.method.cac.threshold, p.argmax(-1), IGNORE)
    every = np.s_[:, small_network.STRIDE // 2 :: STRIDE, small_network.STRIDE // 2 :: STRIDE]
    Y, inside = np.stack([y[every] for y in np.asarray(Y)]), np.asarray(inside)[every]
    np.testing.assert_array_equal(Y, np.where(inside, expected, IGNORE))
    assert 0.1 < (Y == IGNORE).mean() < 0.9


def test_a_method_says_in_its_file_that_it_teaches():
  assert {"cps", "mean_teacher", "fixmatch", "unimatch", "u2pl"} <= set(TEACHING)
  assert not {"supervised", "pixel_contrast"} & set(TEACHING)
  method = assembled(lambda c, s: s.teaches("unlabeled", s.y("unlabeled")[None]))
  params, stats = small_network.variables(method)
  batch = small_network.batch(("labeled", "unlabeled"))
  with pytest.raises(ValueError, match="tested teaches 'unlabeled': its file has to say"):
    method.loss(params, stats, {}, batch, KEY, jnp.int32(0), frozenset())


def _checked(method, **changes):
  c = cps_toy.get_config(f"method={method}")
  c.method.add, c.model.projection.kind = ("pixel_contrast",), "convmlp"
  c.method.pixel_contrast.update({"on": "all"} | changes)
  rules.validate(c)


def test_a_method_without_pseudo_labels_is_refused():
  _checked("supervised", on="labeled")
  with pytest.raises(ConfigError, match="on='all': method.name='supervised' makes no pseudo"):
    _checked("supervised")


def test_a_stage_without_pseudo_labels_learns_from_labels_alone():
  c = cps_toy.get_config("method=self_training")
  c.method.add, c.model.projection.kind = ("pixel_contrast",), "convmlp"
  c.method.pixel_contrast.on = "all"
  rules.validate(c)
  for stage in train.stage_configs(c, "anywhere"):
    rules.validate(stage, stage=True)


def test_pools_are_of_whole_pictures():
  _checked("cps", group=2)
  with pytest.raises(ConfigError, match="group=3: 0, or a divisor of the 4 labeled"):
    _checked("cps", group=3)
