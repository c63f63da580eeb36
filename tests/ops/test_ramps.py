"""Ramps against PixelSSL's own code and in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.ops.ramps import SHAPES, ramp
from tests.golden_files import golden

FORMULAS = {
  "linear": lambda x: x,
  "sigmoid": lambda x: np.exp(-5 * (1 - x) ** 2),
  "cosine": lambda x: np.sin(np.pi * x / 2) ** 2,
  "log": lambda x: 1 - np.exp(-5 * x),
  "exp": lambda x: np.exp(-5 * (1 - x)),
}


def test_every_shape_has_a_formula_here():
  assert set(FORMULAS) == set(SHAPES) - {""}


def test_sigmoid_is_the_published_one():
  g = golden("mean_teacher")
  steps = int(g["rampup_iters_per_epoch"] * g["rampup_epochs"])
  found = [ramp("sigmoid", t, steps) for t in g["rampup_steps"]]
  np.testing.assert_allclose(found, g["rampup"], rtol=1e-5)


@pytest.mark.parametrize("shape", FORMULAS)
def test_shapes_are_those_of_cct(shape):
  expected = golden("cct_perturbations")[f"ramp_{shape}_rampup"]
  found = [ramp(shape, t, 40) for t in (0, 1, 13, 39, 40, 55)]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_weight_of_cct():
  for epoch, t, weight in golden("cct_perturbations")["ramp_epoch_iter_w"]:
    np.testing.assert_allclose(30 * ramp("sigmoid", 10 * epoch + t, 80), weight, rtol=1e-5)


@pytest.mark.parametrize("shape", FORMULAS)
def test_a_ramp_rises_and_stays_there(shape):
  t = np.arange(60)
  run = jax.jit(lambda t: ramp(shape, t, 40))
  found = np.array([run(jnp.int32(i)) for i in t])
  np.testing.assert_allclose(found, FORMULAS[shape](np.minimum(t / 40, 1)), rtol=1e-5, atol=1e-6)
  assert (np.diff(found[:41]) > 0).all() and len(set(found[40:])) == 1
  assert (found[40] == 1) == (shape != "log")


@pytest.mark.parametrize("shape", FORMULAS)
def test_no_steps_no_ramp(shape):
  assert ramp(shape, 0, 0) == ramp(shape, 5, 0) == 1


def test_another_shape_is_refused():
  with pytest.raises(ValueError, match="'cubic': linear, sigmoid, cosine, log, exp"):
    ramp("cubic", 0, 5)
