"""AdamW, schedules, factors by path, the tree of the state and the line that describes it all."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.errors import ConfigError
from semiseg_jax.models.network import BACKBONES, backbone_shapes
from semiseg_jax.options import keys
from semiseg_jax.training import optimizers, rate_factors
from semiseg_jax.training.optimizers import Optimizer, Options, build
from semiseg_jax.training.rate_factors import Factors

STEPS = 5
BETAS, EPSILON, DECAY = (0.8, 0.95), 1e-6, 0.03


def _params():
  """Two networks and their discriminators."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=(2, *shape)).astype(np.float32)
  return {
    "networks": {
      "encoder": {
        "stem": {"conv": {"kernel": draw(3, 3, 3, 4)}},
        "layer1_0": {"conv": {"kernel": draw(1, 1, 4, 4)}, "bn": {"scale": draw(4)}},
      },
      "decoder": {"classifier": {"kernel": draw(1, 1, 4, 3), "bias": draw(3)}},
    },
    "discriminator": {"module": {"conv": {"kernel": draw(4, 4, 3, 1), "bias": draw(1)}}},
  }


def _leaves(tree):
  """'stack/part/...' -> leaf."""
  return {"/".join(k.key for k in path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _torch_sgd(theta, g, memory, t, lr, decay):
  """torch.optim.SGD, momentum 0.9: the first buffer is the first gradient."""
  g = g + decay * theta
  buf = memory["buf"] = g if t == 0 else 0.9 * memory["buf"] + g
  return theta - lr * buf


def _torch_nesterov(theta, g, memory, t, lr, decay):
  """torch.optim.SGD with nesterov=True: the gradient and 0.9 of the new buffer."""
  _torch_sgd(theta, g, memory, t, lr, decay)
  return theta - lr * (g + decay * theta + 0.9 * memory["buf"])


def _torch_adam(theta, g, memory, t, lr, decay):
  """torch.optim.Adam: the decay is a part of the gradient."""
  return _adam_step(theta, g + decay * theta, memory, t, lr)


def _torch_adamw(theta, g, memory, t, lr, decay):
  """torch.optim.AdamW: theta is shrunk by its own rate first."""
  return _adam_step(theta * (1 - lr * decay), g, memory, t, lr)


def _adam_step(theta, g, memory, t, lr):
  beta1, beta2 = BETAS
  m = memory["m"] = beta1 * memory.get("m", 0) + (1 - beta1) * g
  v = memory["v"] = beta2 * memory.get("v", 0) + (1 - beta2) * g * g
  denominator = np.sqrt(v) / math.sqrt(1 - beta2 ** (t + 1)) + EPSILON
  return theta - lr / (1 - beta1 ** (t + 1)) * m / denominator


TORCH = {"sgd": _torch_sgd, "nesterov": _torch_nesterov, "adam": _torch_adam, "adamw": _torch_adamw}
FACTORS = {
  "networks/encoder/stem/conv/kernel": 0.5,
  "networks/encoder/layer1_0/conv/kernel": 1,
  "networks/encoder/layer1_0/bn/scale": 1,
  "networks/decoder/classifier/kernel": 40,
  "networks/decoder/classifier/bias": 4,
}


@pytest.mark.parametrize("name", TORCH)
def test_updates_equal_pytorchs_with_a_rate_for_each_part(name):
  params = {"networks": _params()["networks"]}
  multipliers = ("decoder=40", "encoder/stem=0.5", "decoder/classifier/bias=4")
  transform = build(
    Options(
      name="sgd" if name == "nesterov" else name,
      nesterov=name == "nesterov",
      learning_rate=0.01,
      weight_decay=DECAY,
      betas=BETAS,
      epsilon=EPSILON,
      multipliers=multipliers,
      head_multiplier=7.0,  # the multipliers stand in its place
    ),
    STEPS,
  )
  moved, state = jax.tree.map(jnp.asarray, params), transform.init(params)
  theta = {path: x.astype(np.float64) for path, x in _leaves(params).items()}
  memory, rng = {path: {} for path in theta}, np.random.default_rng(1)
  for t in range(STEPS):
    grads = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
    updates, state = transform.update(jax.tree.map(jnp.asarray, grads), state, moved)
    moved = jax.tree.map(jnp.add, moved, updates)
    for path, g in _leaves(grads).items():
      lr = 0.01 * (1 - t / STEPS) ** 0.9 * FACTORS[path]
      decay = DECAY if path.endswith("kernel") else 0
      theta[path] = TORCH[name](theta[path], g.astype(np.float64), memory[path], t, lr, decay)
  for path, x in _leaves(moved).items():
    np.testing.assert_allclose(x, theta[path], rtol=2e-5, atol=2e-6, err_msg=path)


def _rates(options, steps):
  """The rates of all updates, by what they do to one parameter under a gradient of 1."""
  options = dataclasses.replace(options, momentum=0.0, weight_decay=0.0)
  transform = build(options, steps)
  params = {"networks": {"encoder": {"kernel": jnp.zeros(())}}}
  state, rates = transform.init(params), []
  for _ in range(steps):
    updates, state = transform.update(jax.tree.map(jnp.ones_like, params), state, params)
    rates.append(-float(updates["networks"]["encoder"]["kernel"]))
  return rates


EXPECTED = {  # over 6 steps from 0.2
  ("poly", 0): [0.2 * ((6 - t) / 6) ** 0.9 for t in range(6)],
  ("poly", 2): [0.1, 0.2, *(0.2 * ((4 - t) / 4) ** 0.9 for t in range(4))],
  ("cosine", 0): [0.2, 0.18660254, 0.15, 0.1, 0.05, 0.01339746],
  ("cosine", 3): [0.2 / 3, 0.4 / 3, 0.2, 0.2, 0.15, 0.05],
  ("constant", 0): [0.2] * 6,
  ("constant", 1): [0.2] * 6,
}


@pytest.mark.parametrize("schedule, warmup", EXPECTED)
def test_schedules_in_closed_form(schedule, warmup):
  options = Options(learning_rate=0.2, schedule=schedule, warmup_steps=warmup)
  expected = EXPECTED[schedule, warmup]
  np.testing.assert_allclose(_rates(options, 6), expected, rtol=1e-6)
  logged = [optimizers.rate(options, 6, t) for t in range(6)]
  np.testing.assert_allclose(logged, expected, rtol=1e-7)


@pytest.mark.parametrize("base, power, steps", [(0.0025, 0.9, 40_000), (5e-6, 1.0, 97)])
def test_poly_has_the_bits_of_its_formula(base, power, steps):
  """Runs saved by older versions go on with the same rates."""
  from_device = optimizers.schedule(Options(power=power), base, "poly", steps)
  counts = jnp.asarray(np.unique(np.linspace(0, steps - 1, 300).astype(np.int32)))
  formula = lambda t: base * (1 - jnp.asarray(t, jnp.float32) / steps) ** power
  for x64 in (False, True):
    with jax.enable_x64(x64):
      found, expected = (jax.jit(jax.vmap(f))(counts) for f in (from_device, formula))
      assert found.dtype == expected.dtype == jnp.float32
      np.testing.assert_array_equal(found, expected)
  assert optimizers.rate(Options(learning_rate=base, power=power), steps, 3) == (
    base * (1 - 3 / steps) ** power
  )


def test_cosine_may_end_above_zero():
  """PyTorch's CosineAnnealingLR: eta_min + (base - eta_min) (1 + cos(pi t / T)) / 2."""
  options = Options(learning_rate=0.03, schedule="cosine", final=1e-4 / 0.03, nesterov=True)
  t = np.arange(7)
  expected = 1e-4 + (0.03 - 1e-4) * (1 + np.cos(np.pi * t / 7)) / 2
  found = jax.jit(jax.vmap(optimizers.schedule(options, 0.03, "cosine", 7)))(t)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  logged = [optimizers.rate(options, 7, int(i)) for i in t]
  np.testing.assert_allclose(logged, expected, rtol=1e-9)
  assert optimizers.describe(options).endswith("cosine from 0.03 to 0.0001")


def test_a_warm_up_as_long_as_the_run_is_refused():
  with pytest.raises(ConfigError, match="optimizer.warmup_steps=5: fewer than the train.steps=5"):
    build(Options(warmup_steps=5), 5)


def _factors(backbone, **options):
  """Path without its stack -> factor, of a backbone with some head."""
  encoder, _ = backbone_shapes(backbone, 3)
  params = {"networks": {"encoder": encoder, "decoder": {"classifier": {"kernel": 0}}}}
  network = _Network(backbone)
  layers = rate_factors.layers_of({"networks": network})
  none = {"head": 1.0, "parts": {}, "layer_decay": 1.0, "stacks": {}, "frozen_norms": False}
  factors = Factors(**none | options, layers=layers, idle=frozenset()).of(params)
  return {path.removeprefix("networks/"): f for path, f in _leaves(factors).items()}


class _Network:
  def __init__(self, backbone):
    self.backbone, self.encoder = backbone, BACKBONES[backbone]()


@pytest.mark.parametrize(
  "backbone, token", [("dinov2_small", "pos_embed"), ("dinov3_small", "storage_tokens")]
)
def test_layer_decay_of_a_vit_is_that_of_dinov2(backbone, token):
  """lr_decay_rate ** (num_layers + 1 - layer_id): embeddings have layer 0, block i layer i + 1."""
  found = _factors(backbone, layer_decay=0.5, head=3.0)
  assert len(found) == 12 * 14 + 7 + 1
  for path, factor in found.items():
    part, unit = path.split("/")[:2]
    if part == "decoder":
      expected = 3.0
    elif unit == "norm":
      expected = 1.0
    elif unit.startswith("block"):
      expected = 0.5 ** (12 - int(unit.removeprefix("block")))
    else:
      assert unit in ("patch_embed", "cls_token", token, "mask_token")
      expected = 0.5**13
    assert factor == expected, path


def test_layer_decay_of_a_resnet_goes_by_its_layers():
  found = _factors("resnet18", layer_decay=0.5)
  powers = {"stem": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1, "classifier": 0}
  seen = set()
  for path, factor in found.items():
    unit = path.split("/")[1].split("_")[0]
    assert factor == 0.5 ** powers[unit], path
    seen.add(unit)
  assert seen == set(powers)


def test_a_backbone_that_declares_no_layers_is_refused_with_those_that_do():
  with pytest.raises(ConfigError) as error:
    rate_factors.layers_of({"networks": _Network("hrnet_w18")})
  text = str(error.value)
  assert "model.backbone='hrnet_w18'" in text and "resnet18," in text and "dinov2_small" in text
  assert "hrnet_w48" not in text


def test_networks_without_an_encoder_need_no_layers():
  assert rate_factors.layers_of({"discriminator": object()}) == {}


def test_the_longest_beginning_wins_and_the_rest_are_multiplied():
  found = _factors(
    "resnet18",
    head=10.0,
    parts={"encoder/layer1": 2.0, "encoder": 3.0, "encoder/layer1_1/": 0.0},
    layer_decay=0.5,
    stacks={"networks": 0.1},
  )
  assert found["decoder/classifier/kernel"] == 10 * 0.1
  assert found["encoder/layer1_0/unit1/conv/kernel"] == 2 * 0.5**4 * 0.1
  assert found["encoder/layer1_1/unit1/conv/kernel"] == 0
  assert found["encoder/layer4_0/unit1/conv/kernel"] == 3 * 0.5 * 0.1


def test_rates_of_stacks_reach_those_with_an_optimizer_of_their_own():
  params = jax.tree.map(jnp.asarray, _params())
  own = {"discriminator": Optimizer("sgd", 0.5, 0.0, momentum=0.0)}
  options = Options(learning_rate=0.1, weight_decay=0.0)
  transform = build(options, STEPS, own=own, rates={"networks": 0.25, "discriminator": 2.0})
  updates, _ = transform.update(jax.tree.map(jnp.ones_like, params), transform.init(params), params)
  for path, update in _leaves(updates).items():
    expected = -0.025 if path.startswith("networks") else -1.0
    np.testing.assert_allclose(update, expected, rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("text", ["decoder", "decoder=fast", "=3", "decoder=-1", "decoder=nan"])
def test_multipliers_that_cannot_be_read_are_refused(text):
  with pytest.raises(ConfigError, match="optimizer.multipliers holds"):
    build(Options(multipliers=(text,)), STEPS)


def test_a_beginning_given_twice_is_refused():
  with pytest.raises(ConfigError, match="'decoder=2'"):
    build(Options(multipliers=("decoder=10", "decoder=2")), STEPS)


def test_a_multiplier_that_fits_nothing_is_refused_with_what_there_is():
  params = _params()
  own = {"discriminator": Optimizer("adam", 1e-4, 0.0)}
  for beginning in ("encoder/layer9", "module"):  # the discriminator has its own rate
    with pytest.raises(ConfigError) as error:
      build(Options(multipliers=(f"{beginning}=2",)), STEPS, own=own).init(params)
    assert str(error.value) == (
      f"optimizer.multipliers: no parameter begins with {beginning!r}; parameters begin with: "
      "decoder/classifier, encoder/layer1_0, encoder/stem."
    )


NETWORKS = (
  "['networks']['decoder']['classifier']['bias']",
  "['networks']['decoder']['classifier']['kernel']",
  "['networks']['encoder']['layer1_0']['bn']['scale']",
  "['networks']['encoder']['layer1_0']['conv']['kernel']",
  "['networks']['encoder']['stem']['conv']['kernel']",
)
DISCRIMINATOR = (
  "['discriminator']['module']['conv']['bias']",
  "['discriminator']['module']['conv']['kernel']",
)


def _structure(tree):
  """(path, dtype, rank) of each leaf."""
  return [
    (jax.tree_util.keystr(path), str(x.dtype), x.ndim)
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  ]


def test_state_of_sgd_is_that_of_older_checkpoints():
  params = {"networks": _params()["networks"]}
  state = build(Options(), STEPS).init(params)
  ranks = (2, 5, 2, 5, 5)
  assert _structure(state) == [
    *((f"[1].trace{path}", "float32", rank) for path, rank in zip(NETWORKS, ranks)),
    ("[3].count", "int32", 0),
  ]
  kinds = [type(part).__name__ for part in state]
  assert kinds == ["MaskedState", "TraceState", "EmptyState", "ScaleByScheduleState"]


def test_state_with_an_adam_of_its_own_is_that_of_older_checkpoints():
  own = {"discriminator": Optimizer("adam", 1e-4, 0.0, betas=(0.9, 0.99))}
  state = build(Options(), STEPS, own=own).init(_params())
  moments = [
    (f"['discriminator'][0].{moment}{path}", "float32", rank)
    for moment in ("mu", "nu")
    for path, rank in zip(DISCRIMINATOR, (2, 5))
  ]
  assert _structure(state) == [
    ("['discriminator'][0].count", "int32", 0),
    *moments,
    ("['discriminator'][1].count", "int32", 0),
    *(
      (f"['networks'][1].trace{path}", "float32", rank)
      for path, rank in zip(NETWORKS, (2, 5, 2, 5, 5))
    ),
    ("['networks'][3].count", "int32", 0),
  ]
  kinds = [type(part).__name__ for part in state["discriminator"]]
  assert kinds == ["ScaleByAdamState", "ScaleByScheduleState"]


def test_an_own_adamw_shrinks_parameters_by_its_rate():
  params = {"critic": {"module": {"bias": jnp.asarray([2.0, -4.0])}}}
  transform = build(Options(), STEPS, own={"critic": Optimizer("adamw", 0.1, 0.5)})
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = transform.update(zeros, transform.init(params), params)
  np.testing.assert_allclose(updates["critic"]["module"]["bias"], [-0.1, 0.2], rtol=1e-6)


def test_an_own_schedule_stands_in_place_of_that_of_the_run():
  params = {"critic": {"module": {"bias": jnp.zeros(())}}}
  own = {"critic": Optimizer("sgd", 0.1, 0.0, momentum=0.0, schedule="constant")}
  transform = build(Options(), STEPS, own=own)
  state, ones = transform.init(params), jax.tree.map(jnp.ones_like, params)
  for _ in range(STEPS):
    updates, state = transform.update(ones, state, params)
    np.testing.assert_allclose(updates["critic"]["module"]["bias"], -0.1, rtol=1e-6)


def test_the_line_says_what_runs():
  assert optimizers.describe(Options()) == (
    "SGD, momentum 0.9, weight decay 0.0004 on kernels, poly 0.9 from 0.0025"
  )
  assert optimizers.describe(Options(nesterov=True)).startswith("SGD, Nesterov momentum 0.9, ")
  published = Options(  # UniMatch V2
    name="adamw",
    learning_rate=5e-6,
    weight_decay=0.01,
    decayed="all",
    head_multiplier=40.0,
  )
  assert optimizers.describe(published) == (
    "AdamW, betas 0.9 and 0.999, epsilon 1e-08, weight decay 0.01 on all parameters, "
    "poly 0.9 from 5e-06; all but the encoder x40"
  )
  options = Options(
    momentum=0.5,
    weight_decay=0.0,
    schedule="cosine",
    warmup_steps=100,
    multipliers=("decoder=10", "encoder/layer4=0.5"),
    layer_decay=0.65,
    frozen_norms=True,
  )
  own = {"discriminator": Optimizer("adam", 1e-4, 0.0, betas=(0.9, 0.99), schedule="constant")}
  assert optimizers.describe(options, own, rates={"networks_1": 0.2}) == (
    "SGD, momentum 0.5, no weight decay, cosine from 0.0025 after 100 steps of warm-up; "
    "decoder x10; encoder/layer4 x0.5; networks_1 x0.2; layer decay 0.65; "
    "scales and biases of normalizations frozen; "
    "discriminator by Adam, betas 0.9 and 0.99, epsilon 1e-08, no weight decay, constant at 0.0001 "
    "after 100 steps of warm-up"
  )


def test_norms_are_lengths_of_all_leaves_together():
  params, updates = {"a": jnp.array([3.0]), "b": jnp.array([[4.0, 12.0]])}, {"a": jnp.array(-2.0)}
  found = optimizers.norms(params, updates)
  assert {k: float(v) for k, v in found.items()} == {"l2_params": 13.0, "l2_updates": 2.0}


def test_keys_of_another_rule_are_not_read():
  """`when` names keys and values that there are."""
  table = keys(Options)
  for _, key in table.values():
    for other, values in key.when.items():
      assert set(values) < set(table[other][1].one_of)
  read = lambda name, rule: rule in table[name][1].when["name"]
  assert read("momentum", "sgd") and not read("momentum", "adamw")
  assert read("betas", "adamw") and read("epsilon", "adamw") and not read("betas", "sgd")
