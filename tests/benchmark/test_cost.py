"""Arithmetic and memory of networks: counted by hand, and published shapes' computed figures."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from semiseg_jax.benchmark import cost
from semiseg_jax.benchmark.program import PARAMETER, PICTURE, PRODUCTS, Program
from semiseg_jax.models.layers import Conv, ConvNorm, leaky_relu
from semiseg_jax.models.network import Network, build_network
from semiseg_jax.ops.resize import resize_bilinear
from tests.model_config import model_config

pytestmark = pytest.mark.slow


class Encoder(nn.Module):
  feature_info = {"high": (2, 8)}

  @nn.compact
  def __call__(self, x, mode):
    x = ConvNorm(8, 3, 2, name="stem1")(x, mode)
    x = ConvNorm(8, 3, groups=8, activation=leaky_relu, name="stem2")(x, mode)
    Conv(64, 3, padding=1, name="unused")(x, mode)
    return {"high": x}


class Decoder(nn.Module):
  @nn.compact
  def __call__(self, features, mode):
    x = resize_bilinear(features["high"], (20, 24), True)
    return {"logits": Conv(5, 1, bias=True, name="classifier")(x, mode)}


def _by_hand(dtype=jnp.float32):
  return cost.stages(Network("by_hand", Encoder(), Decoder(), 3, 5, dtype), (10, 12))


def test_parameters_by_hand():
  params = {stage: one.params for stage, one in _by_hand().items()}
  assert params == {
    "encoder/stem": 3 * 3 * 3 * 8 + 16 + 3 * 3 * 8 + 16,
    "encoder/unused": 3 * 3 * 8 * 64,
    "decoder/other": 0,
    "decoder/classifier": 8 * 5 + 5,
  }


def test_arithmetic_by_hand():
  stages = _by_hand()
  assert stages["encoder/stem"].flops == 2 * 5 * 6 * 8 * (27 + 9)
  assert stages["encoder/unused"].flops == 0  # no output needs it
  assert stages["decoder/classifier"].flops == 2 * 20 * 24 * 8 * 5
  assert stages["decoder/other"].flops == 0
  # Rows first, each of 20 from 5; then columns, each of 24 from 6.
  assert stages["decoder/other"].resize_flops == 2 * 8 * (20 * 6 * 5 + 20 * 24 * 6)


@pytest.mark.parametrize("dtype, nbytes", [(jnp.float32, 4), (jnp.bfloat16, 2)])
def test_memory_by_hand(dtype, nbytes):
  stages = _by_hand(dtype)
  # Two outputs of convolutions and the ReLU of the first, which the second one reads; the last
  # activation is linear in what is kept.  Statistics serve both pictures: the variance, and beside
  # a narrow map the mean, from which the centered one is made again.
  statistics = 2 * (1 if nbytes == 4 else 2) * 8 * 4 / cost.BATCH
  pictures = 10 * 12 * 3 * (nbytes if dtype == jnp.bfloat16 else 0)  # their cast
  assert stages["encoder/stem"].kept == 3 * 5 * 6 * 8 * nbytes + statistics + pictures
  assert stages["decoder/other"].kept == 20 * 24 * 8 * nbytes  # the classifier reads it
  assert stages["decoder/classifier"].kept == stages["encoder/unused"].kept == 0


# Forward GFLOP, millions of parameters, GiB kept in float32: arithmetic on the layer lists of the
# published networks, resizing aside.
def _check(network, size, gflop, millions, gib):
  stages = cost.stages(network, size)
  total = cost.total(stages)
  assert total.flops / 1e9 == pytest.approx(gflop, abs=0.05 if gflop > 500 else 0.006)
  assert total.params / 1e6 == pytest.approx(millions, abs=0.05)
  assert total.kept / 2**30 == pytest.approx(gib, rel=0.045)
  return stages


@pytest.mark.parametrize(
  "backbone, side, classes, expected",
  [
    ("resnet50_v1s", 321, 21, (63.37, 40.5, 0.28)),
    ("resnet50_v1s", 512, 21, (152.47, 40.5, 0.68)),
    ("resnet50_v1s", 800, 19, (372.20, 40.5, 1.66)),
    ("resnet101_v1s", 512, 21, (191.26, 59.5, 0.88)),
  ],
)
def test_deeplabv3plus(backbone, side, classes, expected):
  network = build_network(model_config(backbone), num_classes=classes, in_channels=3)
  stages = _check(network, (side, side), *expected)
  assert list(stages) == [
    *(f"encoder/{name}" for name in ("stem", "layer1", "layer2", "layer3", "layer4")),
    *(f"decoder/{name}" for name in ("reduce", "aspp", "other", "fuse", "classifier")),
  ]


def test_hrnet_and_its_projection():
  config = model_config("hrnet_w48", "fcn", projection={"kind": "convmlp"})
  network = build_network(config, num_classes=19, in_channels=3)
  stages = _check(network, (512, 1024), 691.6, 70.7, 2.47)
  plain = cost.total({k: v for k, v in stages.items() if not k.startswith("projection/")})
  assert plain.flops / 1e9 == pytest.approx(645.5, abs=0.06)
  assert plain.params / 1e6 == pytest.approx(70.0, abs=0.05)
  assert plain.kept / 2**30 == pytest.approx(2.29, rel=0.01)


def test_deeplabv2_with_the_two_branches_that_the_reference_runs():
  resnet = {"multi_grid": (1, 1, 1), "caffe_stride": True, "ceil_pool": True}
  config = model_config(
    "resnet101", "deeplabv2", output_stride=8, resnet=resnet, deeplabv2={"summed": 2}
  )
  network = build_network(config, num_classes=21, in_channels=3)
  stages = _check(network, (321, 321), 147.67, 44.0, 0.70)
  branches = 2 * 2 * 41 * 41 * 9 * 2048 * 21
  assert stages["decoder/branch"].flops == branches


def test_rematerialised_blocks_keep_their_inputs_and_run_again():
  networks = {
    remat: build_network(
      model_config("resnet18", "deeplabv2", remat=remat), num_classes=3, in_channels=3
    )
    for remat in ("none", "products", "blocks")
  }
  none, products, blocks = (cost.stages(network, (64, 64)) for network in networks.values())
  maps = 16 * 16 * 64 * 4
  statistics = 4 * 64 * 4 / cost.BATCH
  # Two blocks: 4 convolutions, and what they read; the stem's pool gives the first input.
  assert none["encoder/layer1"].kept == 4 * maps + 3 * maps + statistics + maps
  assert products["encoder/layer1"].kept == 4 * maps + 2 * maps
  assert blocks["encoder/layer1"].kept == 2 * maps
  assert [cost.total(x).flops for x in (products, blocks)] == [cost.total(none).flops] * 2
  again = {k: cost.recomputed_flops(network, (64, 64)) for k, network in networks.items()}
  assert again["none"] == again["products"] == 0
  encoder = sum(v.flops for k, v in none.items() if k.startswith("encoder/"))
  assert again["blocks"] == encoder  # the head's convolutions have nothing behind them


def test_loops_count_every_turn():
  def turned(matrix, x):
    return jax.lax.scan(lambda x, _: (jnp.tanh(x @ matrix), None), x, None, length=7)[0]

  jaxpr = jax.make_jaxpr(turned)(jnp.zeros((4, 4)), jnp.zeros((3, 4))).jaxpr
  operations = Program(jaxpr, [PARAMETER, PICTURE]).operations
  (loop,) = (o for o in operations if o.primitive in PRODUCTS)
  assert PRODUCTS["scan"](loop) == 7 * 2 * 3 * 4 * 4


def test_products_of_unknown_multiplicity_are_refused():
  def turned(matrix, x):
    return jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x @ matrix, x)

  jaxpr = jax.make_jaxpr(turned)(jnp.zeros((4, 4)), jnp.zeros((3, 4))).jaxpr
  with pytest.raises(ValueError, match="'while' cannot be counted"):
    Program(jaxpr, [PARAMETER, PICTURE])
