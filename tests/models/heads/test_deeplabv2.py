"""The DeepLabv2 head against numpy: which branches are summed, laws, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.errors import ConfigError
from semiseg_jax.models.heads.deeplabv2 import DeepLabV2
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import build_network
from tests.model_config import model_config
from tests.models import numpy_reference

RATES = (1, 3, 6)


@pytest.mark.parametrize("summed, used", [(0, 3), (2, 2), (3, 3)])
def test_the_first_branches_are_summed(summed, used):
  head = DeepLabV2(num_classes=4, rates=RATES, summed=summed)
  rng = np.random.default_rng(0)
  high = rng.standard_normal((2, 9, 7, 5)).astype(np.float32)
  draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
  params = {f"branch{i}": {"kernel": draw(3, 3, 5, 4), "bias": draw(4)} for i in range(len(RATES))}

  @jax.jit
  def run(params):
    outputs = head.apply({"params": params}, {"high": high}, Mode("eval"))
    return jnp.sum(outputs["logits"] ** 2), outputs

  gradients, outputs = jax.grad(run, has_aux=True)(params)
  expected = sum(
    params[f"branch{i}"]["bias"]
    + numpy_reference.conv2d(
      high, params[f"branch{i}"]["kernel"].transpose(3, 2, 0, 1), dilation=rate, padding=rate
    )
    for i, rate in enumerate(RATES[:used])
  )
  np.testing.assert_allclose(outputs["logits"], expected, atol=2e-5)
  np.testing.assert_array_equal(outputs["features"], high)
  moved = [np.any(gradients[f"branch{i}"]["kernel"]) for i in range(len(RATES))]
  assert moved == [True] * used + [False] * (len(RATES) - used)


def test_laws():
  model = model_config("resnet50", "deeplabv2", output_stride=8)
  params, _ = build_network(model, num_classes=7, in_channels=3).init((0,))
  for branch in params["decoder"].values():
    np.testing.assert_allclose(branch["kernel"].std(), 0.01, rtol=0.02)
    assert 0 < np.abs(branch["bias"]).max() <= 1 / np.sqrt(9 * 2048)


@pytest.mark.parametrize("summed", [-1, 5])
def test_more_branches_than_there_are_is_refused(summed):
  model = model_config("tiny", "deeplabv2", deeplabv2={"summed": summed})
  with pytest.raises(ConfigError, match=rf"model.deeplabv2.summed={summed}: 0 \(all\) to 4"):
    build_network(model, num_classes=3, in_channels=3)


def test_odd_pictures_and_bfloat16():
  images = np.random.default_rng(0).standard_normal((2, 65, 49, 3)).astype(np.float32)
  network = build_network(
    model_config("tiny", "deeplabv2", dtype="bfloat16"), num_classes=5, in_channels=3
  )
  params, stats = network.init((0,))

  @jax.jit
  def run(params, images):
    features, _ = network.encode(params, stats, images, network.mode("batch", (2,)))
    return network.decode(params, stats, features, network.mode("batch", (2,)))[0]["logits"]

  logits = run(params, images)
  assert logits.shape == (2, 9, 7, 5) and logits.dtype == jnp.float32
