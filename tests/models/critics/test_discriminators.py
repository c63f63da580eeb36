"""The discriminators of AdvSemiSeg and s4GAN against their golden files, run as stacks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax import sharding, stacks
from semiseg_jax.models.critics.discriminators import ImageDiscriminator, PixelDiscriminator
from semiseg_jax.models.critics.single import Single
from semiseg_jax.models.layers import Draws, Mode
from semiseg_jax.models.torch import torch_names
from semiseg_jax.ops.resize import resize_bilinear
from tests.golden_files import golden, golden_params, published_shapes, torch_shapes
from tests.models.numpy_reference import conv2d

PRECISE = functools.partial(jax.default_matmul_precision, "highest")


def _last(array):
  """[B,C,H,W] -> [B,H,W,C]."""
  return np.moveaxis(array, 1, -1)


def _stack(module, channels):
  return stacks.whole("d", 1, Single(module, channels), sharding.make_mesh())


def _golden_stack(module, name, channels):
  """The stack, its golden parameters, and its empty statistics."""
  stack = _stack(module, channels)
  assert torch_shapes(stack.network) == published_shapes(name)
  return stack, *jax.tree.map(lambda x: x[None], golden_params(stack.network))


def _call(stack, params, stats, x, **options):
  outputs, _ = stacks.apply(stack, params, stats, {"x": x}, bn="eval", **options)
  return {name: maps[0] for name, maps in outputs["x"].items()}


def _ramp(shape):
  """-1 to 1 in the order of a [B,C,H,W] array of which `shape` [B,H,W,C] is the last-axis form."""
  batch, height, width, channels = shape
  ramp = np.linspace(-1, 1, np.prod(shape), dtype=np.float32)
  return _last(ramp.reshape(batch, channels, height, width))


@pytest.fixture(scope="module")
def pixels():
  """Golden arrays, stack, parameters, outputs by name and (loss, gradients)."""
  arrays = golden("discriminator_fcn")
  seg_logits = _last(arrays["seg_logits"])
  stack, params, stats = _golden_stack(
    PixelDiscriminator(), "discriminator_fcn", seg_logits.shape[-1]
  )

  def loss(params, seg_logits):
    out = _call(stack, params, stats, jax.nn.softmax(seg_logits))["logits"]
    up = resize_bilinear(out, seg_logits.shape[1:3], stack.network.align_corners)
    return (up * _ramp(up.shape)).mean(), (out, up)

  with PRECISE():
    (value, (out, up)), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
      params, seg_logits
    )
    classes = np.arange(seg_logits.shape[-1], dtype=np.uint8)
    onehot = (arrays["label"][..., None] == classes).astype(np.float32)
    out_onehot = jax.jit(functools.partial(_call, stack))(params, stats, onehot)["logits"]
  return (
    arrays,
    stack,
    {"out": out, "out_up": up[:, ::4, ::4], "out_onehot": out_onehot},
    (
      value,
      gradients,
    ),
  )


@pytest.mark.parametrize("name", ["out", "out_up", "out_onehot"])
def test_logits_of_pixels(pixels, name):
  arrays, _, outputs, _ = pixels
  assert outputs[name].dtype == np.float32
  np.testing.assert_allclose(outputs[name], _last(arrays[name]), rtol=0, atol=1e-4)


def test_gradients_of_the_pixel_discriminator(pixels):
  arrays, stack, _, (loss, (by_params, by_logits)) = pixels
  np.testing.assert_allclose(loss, arrays["loss"], atol=1e-4)
  expected = _last(arrays["grad_seg_logits"])
  error = np.abs(by_logits[:, ::4, ::4] - expected).max()
  assert error < 1e-3 * np.abs(expected).max()
  names = torch_names.network_names(stack.network)
  norms = {
    f"gradnorm_{names[path]}": np.linalg.norm(leaf)
    for path, leaf in traverse_util.flatten_dict(by_params).items()
  }
  assert norms.keys() == {key for key in arrays if key.startswith("gradnorm_")}
  for key, norm in norms.items():
    # The ramp adds up to 0, so the last bias's gradient is rounding.
    np.testing.assert_allclose(norm, arrays[key], rtol=1e-3, atol=1e-5, err_msg=key)


def _keep(arrays):
  """The golden masks as a stack takes them: [n,B,1,1,C] by the path of the dropout."""
  return {f"drop{i}": arrays[f"keep{i}"][None, :, None, None].astype(bool) for i in (1, 2, 3)}


@pytest.fixture(scope="module")
def images():
  """Golden arrays, outputs of the runs 'eval', 'train', 'big_eval', gradient by the input."""
  arrays = golden("discriminator_s4gan")
  x = _last(arrays["input"])
  stack, params, stats = _golden_stack(ImageDiscriminator(), "discriminator_s4gan", x.shape[-1])

  def loss(x):
    outputs = _call(stack, params, stats, x)
    score, features = jax.nn.sigmoid(outputs["logits"]), outputs["features"][:, 0, 0]
    ramp = np.linspace(-1, 1, features.size, dtype=np.float32).reshape(features.shape)
    return score.sum() + (features * ramp).sum(), outputs

  height, width = arrays["big_size"]
  repeat = int(arrays["big_repeat"])
  big = _last(arrays["big_small"]).repeat(repeat, 1).repeat(repeat, 2)[:, :height, :width]
  with PRECISE():
    (_, evaluated), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(x)
    run = jax.jit(functools.partial(_call, stack))
    trained = run(params, stats, x, dropout={"x": _keep(arrays)})
    big_evaluated = run(params, stats, big)
  return arrays, {"eval": evaluated, "train": trained, "big_eval": big_evaluated}, gradient


@pytest.mark.parametrize("run", ["eval", "train", "big_eval"])
def test_scores_and_features_of_images(images, run):
  arrays, outputs, _ = images
  name = (lambda key: f"big_{key}_eval") if run == "big_eval" else (lambda key: f"{key}_{run}")
  score = jax.nn.sigmoid(outputs[run]["logits"][:, 0, 0])
  np.testing.assert_allclose(score, arrays[name("score")], rtol=0, atol=1e-5)
  features = arrays[name("feature")][:, :, 0, 0]
  np.testing.assert_allclose(outputs[run]["features"][:, 0, 0], features, rtol=0, atol=1e-4)


def test_gradient_of_the_image_discriminator(images):
  arrays, _, gradient = images
  expected = _last(arrays["grad_input_eval"])
  error = np.abs(gradient[:, ::4, ::4] - expected).max()
  assert error < 1e-3 * np.abs(expected).max()


def _numpy_pixels(params, x):
  for layer in ("conv1", "conv2", "conv3", "conv4", "classifier"):
    p = params["module"][layer]
    x = conv2d(x, p["kernel"].transpose(3, 2, 0, 1), stride=2, padding=1) + p["bias"]
    x = np.where(x < 0, 0.2 * x, x) if layer != "classifier" else x
  return x


def test_odd_sizes_are_rounded_down():
  module, x = PixelDiscriminator(), np.random.default_rng(0).random((2, 71, 45, 3), np.float32)
  network = Single(module, 3)
  params, stats = network.init((1,))
  outputs, _ = network.decode(params, stats, {"maps": x}, Mode("eval"))
  expected = _numpy_pixels(params, x)
  assert outputs["logits"].shape == expected.shape == (2, 2, 1, 1)
  np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
  "module, count", [(PixelDiscriminator(), 2_783_169), (ImageDiscriminator(), 2_778_561)]
)
def test_number_of_parameters_and_laws(module, count):
  network = Single(module, 21 if isinstance(module, PixelDiscriminator) else 24)
  params, _ = network.init((0,))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
  for name, layer in params["module"].items():
    bound = 1 / np.sqrt(np.prod(layer["kernel"].shape[:-1]))
    assert 0.9 * bound < np.abs(layer["kernel"]).max() <= bound, name
    np.testing.assert_allclose(layer["kernel"].std(), bound / np.sqrt(3), rtol=0.1)
    assert 0 < np.abs(layer["bias"]).max() <= bound, name


@pytest.mark.parametrize(
  "shape, message",
  [
    ((1, 31, 64, 3), "classifier: .*spans 4 pixels.* 1x4 .*larger pictures"),
    ((1, 64, 64, 4), r"pixeldiscriminator: .*\(1, 64, 64, 4\).*\[B,H,W,3\]"),
  ],
)
def test_maps_that_are_too_small_or_of_other_channels_are_refused(shape, message):
  stack = _stack(PixelDiscriminator(), 3)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(functools.partial(_call, stack), *stacks.shapes(stack), jnp.zeros(shape))


def test_each_copy_and_image_draws_its_own_dropout():
  stack = stacks.whole("d", 2, Single(ImageDiscriminator(), 5), sharding.make_mesh())
  params, stats = stacks.init(stack, 0)
  params = jax.tree.map(lambda x: np.stack([x[0]] * 2), params)
  x = np.ones((2, 32, 32, 5), np.float32)
  dropout = {"x": jax.random.split(jax.random.key(0), 2)}
  outputs, _ = jax.jit(
    lambda dropout: stacks.apply(stack, params, stats, {"x": x}, bn="eval", dropout=dropout)
  )(dropout)
  dropped = np.asarray(outputs["x"]["features"]).reshape(4, -1)
  for i in range(4):
    assert all(np.abs(dropped[i] - dropped[j]).max() > 1e-3 for j in range(i))


def test_dropout_drops_whole_channels_of_the_first_three_layers():
  module, x = ImageDiscriminator(), np.random.default_rng(0).random((2, 64, 64, 4), np.float32)
  params, _ = Single(module, 4).init((0,))
  mode = Mode("eval", draws=Draws(jax.random.split(jax.random.key(1), 2)))
  _, found = module.apply(
    {"params": params["module"]}, x, mode, capture_intermediates=True, mutable=["intermediates"]
  )
  maps = {name: y["__call__"][0] for name, y in found["intermediates"].items() if "drop" in name}
  assert sorted(maps) == ["drop1", "drop2", "drop3"]
  for y in maps.values():
    zeros = (np.asarray(y) == 0).mean((1, 2))
    assert set(np.unique(zeros)) == {0, 1} and 0.3 < zeros.mean() < 0.7


@pytest.mark.parametrize("module", [PixelDiscriminator(), ImageDiscriminator()])
def test_bfloat16_keeps_float32_logits(module):
  x = np.random.default_rng(0).random((2, 32, 32, 6), np.float32)
  half = Single(module, 6, jnp.bfloat16)
  params, stats = half.init((0,))
  run = jax.jit(
    lambda network: network.decode(params, stats, {"maps": x}, network.mode("eval"))[0],
    static_argnums=0,
  )
  logits, exact = run(half)["logits"], run(Single(module, 6))["logits"]
  assert logits.dtype == jnp.float32
  assert 0 < np.abs(logits - exact).max() < 0.02 * np.abs(exact).max()
