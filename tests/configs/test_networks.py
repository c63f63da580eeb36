import jax
import pytest

from configs import networks
from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.models.network import build_network

# Totals with 21 classes and, for CAC, with its projector: cps.md 2, cac.md 2; UniMatch's is the
# deep-stem backbone (23,631,808), ASPP and decoder of CAC (16,838,752), the classifier (5,397);
# advsemiseg.md 2; cct.md 2; ST++'s has torchvision's backbone (25,557,032 less 2,049,000).
COUNTS = {
  ("cps", 50): 40_475_957,
  ("cps", 101): 59_468_085,
  ("cac", 50): 40_450_869,
  ("cac", 101): 59_442_997,
  ("unimatch", 50): 23_631_808 + 16_838_752 + 5_397,
  ("advsemiseg", 101): 44_048_532,
  ("cct", 50): 46_721_896,
  ("st", 50): 23_508_032 + 16_838_752 + 5_397,
}


@pytest.mark.parametrize("name, layers", COUNTS)
def test_parameters_of_the_published_networks(name, layers):
  model = schema.default().model
  networks.choose(model, name, layers)
  params, _ = build_network(model, num_classes=21, in_channels=3).shapes()
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == COUNTS[name, layers]


def test_every_network_can_be_built():
  for name in networks.NETWORKS:
    model = schema.default().model
    networks.choose(model, name, 50)
    network = build_network(model, num_classes=3, in_channels=3)
    assert network.encoder.output_stride == model.output_stride


def test_an_unknown_network_names_the_known_ones():
  with pytest.raises(ConfigError, match="'cpss': one of cps, cac, unimatch, advsemiseg"):
    networks.choose(schema.default().model, "cpss", 50)
