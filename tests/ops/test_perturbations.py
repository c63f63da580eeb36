"""CCT's perturbations against the released code, draw by draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.models.critics.single import Single
from semiseg_jax.models.heads.pspnet import SubPixelDecoder
from semiseg_jax.models.layers import Mode
from semiseg_jax.ops import perturbations
from semiseg_jax.ops.channels import dropout_masks
from semiseg_jax.ops.consistency import soft_distance
from semiseg_jax.ops.resize import resize_nearest
from tests.golden_files import golden, golden_params

# Number of the auxiliary decoder -> its output, in the order of the file.
OUTPUTS = (
  "out_vat",
  "out_drop",
  "out_cutout",
  "out_context_masking",
  "out_object_masking",
  "out_feature_drop",
  "out_feature_noise",
)
RATIO = 8  # pixels along a side of a feature's cell


@pytest.fixture(scope="module")
def g():
  return golden("cct_perturbations")


def _maps(array):
  return jnp.asarray(np.moveaxis(array, 1, -1))


def _decoder(g, name):
  """Features [B,h,w,C] -> logits [B,8h,8w,K] of a decoder of the file."""
  classes, channels = g["pred"].shape[1], g["x"].shape[1]
  network = Single(SubPixelDecoder(classes, 3, True), channels)
  params, _ = golden_params(network, f"{name}.")
  return lambda z: network.module.apply({"params": params["module"]}, z, Mode("eval"))["logits"]


@jax.default_matmul_precision("highest")
def _adversarial(g, xi, dtype):
  with jax.enable_x64(dtype == "float64"):
    h, u = (_maps(g[name].astype(dtype)) for name in ("x", "vat_rand"))
    decode = _decoder(g, "aux_decoders.0")
    run = jax.jit(lambda h, u: perturbations.adversarial(decode, h, u, xi=xi, length=2.0))
    return np.moveaxis(np.asarray(run(h, u)), -1, 1)


def _norms(r):
  return np.sqrt(np.square(r).sum((1, 2, 3)))


@pytest.mark.parametrize(
  "xi, dtype, name, tolerance",
  [
    (1e-6, "float64", "vat_r_adv64", 1e-4),
    (1e-2, "float64", "vat_r_adv64_xi1e-2", 1e-4),
    (1e-2, "float32", "vat_r_adv32_xi1e-2", 2e-3),
  ],
)
def test_adversarial_directions(g, xi, dtype, name, tolerance):
  found = _adversarial(g, xi, dtype)
  assert found.dtype == dtype
  np.testing.assert_allclose(found, g[name], rtol=0, atol=tolerance * np.abs(g[name]).max())
  if xi == 1e-2:
    np.testing.assert_allclose(_norms(found), 2, rtol=1e-3)
  else:
    assert _norms(found).max() < 0.1, "with the published xi it is almost the identity"


def test_the_direction_takes_no_gradient_and_raises_the_divergence(g):
  h, u, decode = (
    _maps(g["x"]),
    _maps(g["vat_rand"].astype(np.float32)),
    _decoder(g, "aux_decoders.0"),
  )
  p = jax.nn.softmax(decode(h))

  @jax.jit
  def run(h):
    r = perturbations.adversarial(decode, h, u, xi=1e-2, length=2.0)
    kl = lambda r: -(p * jax.nn.log_softmax(decode(h + r))).sum((1, 2, 3))
    return kl(r) - kl(0 * r), kl(_random(u)) - kl(0 * r)

  def _random(u):
    d = u - 0.5
    return 2 * d / jnp.sqrt(jnp.square(d).sum((1, 2, 3), keepdims=True))

  adversarial, random = run(h)
  assert (adversarial > 3 * jnp.abs(random)).all()
  moved = lambda h: perturbations.adversarial(decode, h, u, xi=1e-2, length=2.0).sum()
  assert not np.any(jax.jit(jax.grad(moved))(h))


def _perturbed(g, xi_row="vat_r_adv64"):
  """What each decoder of the file is given, [B,h,w,C], as a function of h; by our own rules."""
  M = perturbations.foreground(_maps(g["pred"]), (0,))
  m = resize_nearest(M, g["x"].shape[2:])[..., None]
  share = jnp.asarray(g["fdrop_uniform"], jnp.float32)
  reach = 0.3
  u_noise = jnp.asarray((np.moveaxis(g["fnoise_noise"], 0, -1) / reach + 1) / 2)
  u_drop = jnp.where(g["drop_mask"] > 0, 0.7, 0.2)
  r = _maps(g[xi_row].astype(np.float32))
  return (
    lambda h: h + r,
    lambda h: h * dropout_masks(u_drop, 0.5)[:, None, None],
    lambda h: h * g["cutout_mask"][..., None],  # tests/ops/test_guided_cutout.py
    lambda h: h * m,
    lambda h: h * ~m,
    lambda h: h * perturbations.less_active(h, share)[..., None],
    lambda h: h * perturbations.noise(u_noise, reach)[None],
  )


def test_masks(g):
  h, ways = _maps(g["x"]), _perturbed(g)
  for k, name in ((3, "context_masked"), (4, "object_masked")):
    some = g[name].shape[1]
    np.testing.assert_array_equal(np.moveaxis(ways[k](h), -1, 1)[:, :some], g[name])
  keep = perturbations.less_active(h, jnp.asarray(g["fdrop_uniform"], jnp.float32))
  np.testing.assert_array_equal(keep, g["fdrop_mask"] == 1)
  assert not keep.all((1, 2)).any()


def test_outputs_of_all_decoders(g):
  h = _maps(g["x"])
  with jax.default_matmul_precision("highest"):
    for k, (way, name) in enumerate(zip(_perturbed(g), OUTPUTS, strict=True)):
      found = _decoder(g, f"aux_decoders.{k}")(way(h))
      name = "vat_out64" if k == 0 else name
      expected = np.moveaxis(g[name], 1, -1)
      np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), err_msg=name)
    main = _decoder(g, "main_decoder")(h)
  expected = np.moveaxis(g["main_logits"], 1, -1)
  np.testing.assert_allclose(main, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
  assert main.min() == 0


def test_the_output_of_the_published_float32_direction_differs_as_little(g):
  """Its r is rounding noise of length below 0.1; the decoders' outputs say so."""
  expected = g["vat_out64"]
  assert np.abs(g["out_vat"] - expected).max() < 1e-2 * np.abs(expected).max()
  found = _decoder(g, "aux_decoders.0")(_maps(g["x"]) + _maps(_adversarial(g, 1e-6, "float32")))
  found = np.moveaxis(np.asarray(found), -1, 1)
  assert np.abs(found - expected).max() < 1e-2 * np.abs(expected).max()


def test_the_mean_of_all_and_its_gradient(g):
  ways, target = _perturbed(g), jax.nn.softmax(_maps(g["main_logits"]))
  decoders = [_decoder(g, f"aux_decoders.{k}") for k in range(len(ways))]

  def loss(h):
    each = [soft_distance(d(way(h)), target, "mse").mean() for d, way in zip(decoders, ways)]
    return sum(each) / len(each)

  with jax.default_matmul_precision("highest"):
    value, found = jax.jit(jax.value_and_grad(loss))(_maps(g["x"]))
  np.testing.assert_allclose(value, g["loss_mse_mean"], rtol=1e-5)
  expected = np.moveaxis(g["grad_x_mse_mean"], 1, -1)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_classes_that_are_no_object():
  P = jax.nn.one_hot(jnp.arange(4).reshape(1, 2, 2), 4)
  np.testing.assert_array_equal(
    perturbations.foreground(P, (0, 2)), [[[False, True], [False, True]]]
  )
  np.testing.assert_array_equal(perturbations.foreground(P, ()), np.ones((1, 2, 2), bool))
