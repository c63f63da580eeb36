"""Several nets evaluated together: `eval.stack` joins them, their copies are numbered through."""

import jax
import numpy as np
import pytest

from semiseg_jax import evaluate, train
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import inference
from tests import small_city

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data") / "small"
  small_city.write(folder)
  return folder


@pytest.fixture(scope="module")
def workdir(root, tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  changes = {"eval__stack": "networks+teacher", "eval__network": "mean", "train__steps": 3}
  train.train(small_city.config(root, "ratio=1_4,method=mean_teacher", **changes), str(folder))
  return folder


def test_student_and_teacher_are_networks_0_and_1(workdir):
  both = inference.load_trained(workdir)
  alone = [inference.load_trained(workdir, stack=name) for name in ("networks", "teacher")]
  assert both.n == 2 and [one.n for one in alone] == [1, 1]
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
  valid = np.array([[0, 0, 32, 48]] * 2, np.int32)
  expected = [np.asarray(inference.make_forward(one, "0")(images, valid)) for one in alone]
  for k in range(2):
    found = inference.make_forward(both, str(k))(images, valid)
    np.testing.assert_allclose(found, expected[k], rtol=1e-5, atol=1e-5)
  mean = np.mean([jax.nn.softmax(x) for x in expected], axis=0)
  np.testing.assert_allclose(
    inference.make_forward(both, "mean")(images, valid), mean, rtol=1e-5, atol=1e-6
  )
  assert np.abs(expected[0] - expected[1]).max() > 1e-3


def test_results_say_which(workdir):
  assert evaluate.evaluate(str(workdir))["protocol"]["stack"] == "networks+teacher"
  with pytest.raises(ConfigError, match="networks, teacher, or several joined"):
    inference.load_trained(workdir, stack="networks+judge")
