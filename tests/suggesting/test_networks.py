"""What networks say of windows and pictures, against plain numpy."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import protocol
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.suggesting import measures, networks
from tests import small_network

CLASSES, CROP = 4, (8, 12)


@pytest.fixture(scope="module")
def trained():
  config = schema.default()
  config.data.crop, config.eval.mode = CROP, "whole"
  mesh = Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), ("replica", "data"))
  method = small_network.method(config, classes=CLASSES, mesh=mesh)
  params, stats = small_network.variables(method)
  members = method.members["networks"]
  about = {"classes": list("abcd"), "colors": [[0, 0, 0]] * CLASSES, "channels": 3}
  return Trained(config, about, 0, members, params, stats, (), {})


def _run(trained, network="mean"):
  return networks.of_run(trained, protocol.from_config(trained.config.eval, network=network))


def _probabilities(trained, x):
  """Of each network [2,B,h,w,C], normalized pictures [B,h,w,3]."""
  found = []
  for k in range(2):
    trees = [small_network.copy(t["networks"], k) for t in (trained.params, trained.batch_stats)]
    logits, _ = small_network.forward(*trees, x, "eval")
    logits = np.exp(small_network.upsampled(logits, x.shape[1:3]))
    found.append(logits / logits.sum(-1, keepdims=True))
  return np.stack(found)


def _normalized(images):
  return (images / 255.0 - small_network.MEAN) / small_network.STD


def test_the_doubt_of_two_networks(trained):
  image = np.random.default_rng(0).integers(0, 256, (1, *CROP, 3), np.uint8)
  every = _probabilities(trained, _normalized(image))
  assert np.abs(every[0] - every[1]).max() > 0.05
  for network, p in (("mean", every.mean(0)), ("1", every[1])):
    (found,) = _run(trained, network).doubt.segment_many(list(image))
    expected = measures.maps(p[0], every[:, 0])
    np.testing.assert_allclose(networks.doubt_maps(found), expected, atol=2e-5)


def test_features_are_means_over_the_first_network_at_the_size_of_a_crop(trained):
  """Of eleven pictures, more than a batch, the last is a copy of the first."""
  images = np.random.default_rng(1).integers(0, 256, (11, *CROP, 3), np.uint8)
  images[-1] = images[0]
  features = _run(trained).features
  for image in images:
    features.add(image)
  found = features.finish()
  trees = [small_network.copy(t["networks"], 0) for t in (trained.params, trained.batch_stats)]
  expected, _ = small_network.encode(*trees, _normalized(images), "eval")
  np.testing.assert_allclose(found, expected.mean((1, 2)), atol=1e-4)
  np.testing.assert_array_equal(found[-1], found[0])
  features.add(np.repeat(np.repeat(images[0], 2, 0), 3, 1))  # of another size
  np.testing.assert_allclose(features.finish(), found[:1], atol=1e-5)


def test_a_network_that_is_not_there(trained):
  with pytest.raises(ConfigError, match="0 to 1, or 'mean'"):
    _run(trained, "2")
