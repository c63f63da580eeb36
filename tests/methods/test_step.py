"""What a loss may ask a Step for: networks, randomness, lambda; pictures: test_step_pictures.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.config import schema
from semiseg_jax.ops.keys import example_keys
from tests import small_network
from tests.methods import cases
from tests.methods.one_step import CLASSES, KEY, ROWS, SIZE, WIDTH, assembled, run


def both(s):
  return {name: s.x(name) for name in ("labeled", "unlabeled")}


@pytest.mark.parametrize("inside", ["grad", "vmap", "scan", "cond"])
def test_a_net_inside_of_a_transformation_is_refused(inside):
  def loss(c, s):
    x = s.x("labeled")
    total = lambda x: s.net("networks", {"labeled": x})["labeled"].sum()
    return {
      "grad": lambda: jax.grad(total)(x),
      "vmap": lambda: jax.vmap(total)(x[None]),
      "scan": lambda: jax.lax.scan(lambda carry, x: (carry + total(x), None), 0.0, x[None]),
      "cond": lambda: jax.lax.cond(s.t > 0, total, lambda x: 0.0, x),
    }[inside]()

  with pytest.raises(RuntimeError, match=r"a loss calls s.pure\(name\), not s.net"):
    run(loss)


def test_the_gradient_of_the_loss_itself_is_no_transformation_inside_of_it():
  method = assembled(lambda c, s: s.net("networks", both(s))["labeled"].sum())
  params, stats = small_network.variables(method)
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
  of = lambda p: method.loss(p, stats, {}, batch, KEY, jnp.int32(0), frozenset())[0]
  assert any(np.any(g) for g in jax.tree.leaves(jax.jit(jax.grad(of))(params)))


@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_pure_equals_net_and_leaves_no_trace(bn):
  def loss(c, s):
    x, pure = both(s), s.pure("networks")
    at = lambda x: pure({"labeled": x}, bn=bn)["labeled"]
    inside = {
      "plain": pure(x, bn=bn)["labeled"],
      "scan": jax.lax.scan(lambda carry, x: (carry, at(x)), 0, x["labeled"][None])[1][0],
      "remat": jax.checkpoint(at)(x["labeled"]),
    }
    zero = jax.tree.map(jnp.zeros_like, s.params)
    moved = pure(x, zero, s.stats, bn=bn)["labeled"]
    slope = jax.grad(lambda x: at(x).sum())(x["labeled"])
    before = dict(s.seen), s.stats
    return s.net("networks", x, bn=bn)["labeled"], inside, moved, slope, before

  (expected, inside, moved, slope, (seen, stats)), _ = run(loss)
  for how, found in inside.items():
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=how)
  assert not moved.any() and slope.any() and seen == {}
  start = small_network.variables(assembled(loss))[1]
  small_network.close(stats, start, rtol=0, atol=0)


def test_pure_can_be_mapped_over_other_parameters():
  def loss(c, s):
    pure, x = s.pure("networks"), both(s)
    scaled = lambda factor: jax.tree.map(lambda p: factor * p, s.params)
    many = jax.vmap(lambda f: pure(x, scaled(f))["labeled"])(jnp.array([1.0, 0.5]))
    return many, [pure(x, scaled(f))["labeled"] for f in (1.0, 0.5)]

  (many, each), _ = run(loss)
  np.testing.assert_allclose(many, each, rtol=1e-5, atol=1e-5)


def test_frozen_statistics_are_used_and_never_move():
  """Those of segmentation networks; a critic has its own."""
  config = schema.default()
  config.train.frozen_statistics = True
  passes = lambda bn: lambda c, s: s.net("networks", both(s), bn=bn)
  expected, _ = run(passes("eval"))
  found, out = run(passes("train"), config=config)
  small_network.close(found, expected, rtol=0, atol=0)
  small_network.close(out.stats, small_network.variables(assembled(passes("train")))[1], rtol=0)
  c = cases.config("gct")
  c.train.frozen_statistics = True
  method = small_network.method(c, classes=CLASSES)
  frozen = {name: stack.frozen_statistics for name, stack in method.stacks.items()}
  assert frozen == {"networks": True, "flaw_detector": False}


def test_encode_and_decode_equal_net():
  """Dropout of the head included."""

  def whole(c, s):
    return s.net("networks", both(s))

  def halves(c, s):
    return s.decode("networks", s.encode("networks", both(s)))

  (expected, out), (found, out_of_halves) = run(whole, noisy=True), run(halves, noisy=True)
  small_network.close(found, expected, rtol=1e-6)
  small_network.close(out_of_halves.stats, out.stats, rtol=1e-6)


def test_features_may_change_between_the_halves():
  def loss(c, s):
    features = s.encode("networks", both(s))
    halved = {
      k: dataclasses.replace(f, maps=jax.tree.map(lambda m: m / 2, f.maps))
      for k, f in features.items()
    }
    return s.decode("networks", halved, bn="eval"), features["labeled"].maps[0]["high"]

  (found, maps), _ = run(loss)
  method = assembled(loss)
  params, stats = small_network.variables(method)
  for k in range(2):
    p, q = (small_network.copy(tree["networks"], k) for tree in (params, stats))
    logits, _ = small_network.decode(p, q, np.float64(maps[k]) / 2, "eval")
    expected = small_network.upsampled(logits, SIZE)
    np.testing.assert_allclose(found["labeled"][k], expected, rtol=1e-4, atol=1e-5)


def test_each_map_may_change():
  def loss(c, s):
    features = s.encode("networks", both(s))["labeled"]
    seen = []
    changed = features.each(lambda *given: seen.append(given[:2]) or 3 * given[2])
    assert seen == [(0, "high")] and changed.size == SIZE
    return changed.maps[0]["high"], features.maps[0]["high"]

  (found, maps), _ = run(loss)
  np.testing.assert_allclose(found, 3 * maps, rtol=1e-6)


def test_outputs_by_name_at_their_own_stride():
  def loss(c, s):
    x = both(s)
    seen = lambda out: s.net("networks", x, bn="eval", out=out)["unlabeled"]
    return {out: seen(out) for out in ("logits", "head", "embedding")}

  found, _ = run(loss)
  small = (SIZE[0] // small_network.STRIDE, SIZE[1] // small_network.STRIDE)
  shapes = {"logits": (*SIZE, CLASSES), "head": (*small, CLASSES), "embedding": (*small, WIDTH)}
  assert {k: x.shape for k, x in found.items()} == {
    k: (2, ROWS, *shape) for k, shape in shapes.items()
  }
  for head, full in zip(found["head"], found["logits"]):
    expected = small_network.upsampled(np.float64(head), SIZE)
    np.testing.assert_allclose(full, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(found["embedding"], axis=-1), 1, rtol=1e-5)


def test_only_passes_with_gradients_are_remembered_for_terms():
  def loss(c, s):
    s.net("networks", {"unlabeled": s.x("unlabeled")}, grad=False)
    first = {name: sorted(streams) for name, streams in s.seen.items()}
    full = s.net("networks", {"labeled": s.x("labeled")})["labeled"]
    return first, s.seen["networks"], full

  (first, seen, full), _ = run(loss)
  assert first == {} and list(seen) == ["labeled"]
  np.testing.assert_array_equal(seen["labeled"]["full"], full)
  assert seen["labeled"]["embedding"].shape[-1] == WIDTH


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 2])
def test_blocks_equal_all_copies_at_once(block):
  def value(block):
    def loss(c, s):
      P = s.net("networks", both(s), block=block)
      return sum((x**2).mean() for x in P.values())

    method = assembled(loss, noisy=True)
    params, stats = small_network.variables(method)
    batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
    call = jax.jit(jax.value_and_grad(method.loss, has_aux=True), static_argnums=6)
    (total, out), gradient = call(params, stats, {}, batch, KEY, 0, frozenset())
    return total, out.stats, gradient

  small_network.close(value(block), value(0), rtol=1e-4, atol=1e-6)


def _dropped(options, *, key=KEY, streams=("labeled", "unlabeled")):
  """Logits of the noisy network on one picture for all rows and streams."""
  batch = small_network.batch(("labeled", "unlabeled"), classes=CLASSES)
  for fields in batch.values():
    fields["image"][:] = batch["labeled"]["image"][:1]
  loss = lambda c, s: s.net("networks", {k: s.x(k) for k in streams}, out="head", **options)
  return run(loss, batch, key=key, noisy=True)[0]


def test_dropout_differs_between_streams_rows_copies_and_steps():
  found = _dropped({})
  a, b = found["labeled"], found["unlabeled"]
  quiet = _dropped({"dropout": None, "bn": "batch"})["labeled"]
  np.testing.assert_allclose(quiet[:, 0], quiet[:, 1], rtol=1e-5, atol=1e-5)
  assert (np.abs(a - b) > 1e-3).any(), "streams"
  assert (np.abs(a[:, 0] - a[:, 1]) > 1e-3).any(), "rows"
  assert (np.abs(a - _dropped({}, key=jax.random.key(4))["labeled"]) > 1e-3).any(), "steps"
  small_network.close(_dropped({}), found, rtol=0, atol=0)


@pytest.mark.parametrize(
  "options", [{"bn": "eval"}, {"bn": "batch"}, {"grad": False}, {"bn": "batch", "grad": False}]
)
def test_dropout_is_drawn_only_in_passes_that_train(options):
  found = _dropped(options)["labeled"]
  for row in (1, 2):
    np.testing.assert_allclose(found[:, row], found[:, 0], rtol=1e-5, atol=1e-5)


def test_the_copies_of_a_net_drop_others():
  """Two copies of the same numbers."""

  def loss(c, s):
    return s.net("networks", {"labeled": s.x("labeled")}, out="head")["labeled"]

  first = lambda tree: jax.tree.map(lambda x: np.stack([x[0], x[0]]), tree)
  variables = [first(tree) for tree in small_network.variables(assembled(loss, noisy=True))]
  quiet, _ = run(loss, variables=variables)
  np.testing.assert_allclose(quiet[0], quiet[1], rtol=1e-6)
  noisy, _ = run(loss, variables=variables, noisy=True)
  assert (np.abs(noisy[0] - noisy[1]) > 1e-3).any()


def test_masks_differ_by_row_and_by_key_and_are_those_of_the_config():
  batch = small_network.batch(("labeled", "unlabeled"), size=(32, 24), classes=CLASSES)
  draw = lambda seed: run(lambda c, s: s.cutmix("unlabeled"), batch, key=jax.random.key(seed))[0]
  first = draw(0)
  assert first.shape == (ROWS, 32, 24) and first.dtype == bool
  assert 0.05 < first.mean() < 0.6
  assert (first[0] != first[1]).any() and (first != draw(1)).any()
  np.testing.assert_array_equal(first, draw(0))
  config = schema.default()
  config.method.cutmix_boxes, config.method.cutmix_area = 1, (0.5, 0.5)
  half, _ = run(lambda c, s: s.cutmix("unlabeled"), batch, config=config)
  np.testing.assert_allclose(half.mean((1, 2)), 0.5, atol=0.06)


def test_uniform_numbers_by_use_row_and_copy():
  def loss(c, s):
    one, many = (s.u("a", "labeled", (50,), copies=n) for n in (0, 2))
    return one, many, s.u("b", "labeled", (50,)), s.u("a", "labeled", (50,))

  (one, many, other, again), _ = run(loss)
  assert one.shape == (ROWS, 50) and many.shape == (2, ROWS, 50)
  assert 0 <= one.min() < 0.2 and 0.8 < one.max() < 1
  np.testing.assert_array_equal(one, again)
  values = np.concatenate([one.ravel(), many.ravel(), other.ravel()])
  assert len(np.unique(values)) > 0.99 * len(values)


def test_the_ramp_of_lambda_is_that_of_the_key_else_of_the_paper():
  config = schema.default()
  config.method.weight, config.method.weight_ramp_steps = 2.0, 10
  weight = lambda t=5, **more: float(run(lambda c, s: s.weight(), t=t, config=config, **more)[0])
  np.testing.assert_allclose([weight(), weight(20)], [1.0, 2.0], rtol=1e-6)
  np.testing.assert_allclose(weight(RAMP="sigmoid"), 2 * np.exp(-5 / 4), rtol=1e-6)
  config.method.weight_ramp = "cosine"
  np.testing.assert_allclose(weight(2, RAMP="sigmoid"), 1 - np.cos(np.pi / 5), rtol=1e-6)


def test_lambda_is_0_before_its_start_and_rises_from_there():
  config = schema.default()
  config.method.weight, config.method.weight_start = 2.0, 20
  weight = lambda t: float(run(lambda c, s: s.weight(), t=t, config=config)[0])
  assert [weight(t) for t in (0, 19, 20)] == [0, 0, 2]
  config.method.weight_ramp_steps = 10
  np.testing.assert_allclose([weight(19), weight(20), weight(25), weight(40)], [0, 0, 1, 2])


def test_other_streams_draw_other_numbers():
  """But for those that runs were begun with, whose names have no stream."""

  def loss(c, s):
    return [s.u("drawn", name, (4,)) for name in ("labeled", "unlabeled")]

  (labeled, unlabeled), _ = run(loss)
  assert (np.asarray(labeled) != np.asarray(unlabeled)).all()
  keys = example_keys(KEY, "unlabeled/drawn", jnp.arange(len(unlabeled)))
  expected = jax.vmap(lambda key: jax.random.uniform(key, (4,)))(keys)
  np.testing.assert_array_equal(unlabeled, expected)


def test_a_second_pass_drops_others():
  def loss(c, s):
    x = {"labeled": s.x("labeled")}
    return [s.net("networks", x)["labeled"] for _ in range(2)]

  (first, second), _ = run(loss, noisy=True)
  assert (np.asarray(first) != np.asarray(second)).any()
