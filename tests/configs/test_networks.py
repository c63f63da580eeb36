import jax
import pytest

from configs import networks
from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names

# Totals with 21 classes and, for CAC, with its projector: cps.md 2, cac.md 2; UniMatch's is the
# deep-stem backbone (23,631,808), ASPP and decoder of CAC (16,838,752), the classifier (5,397);
# advsemiseg.md 2; cct.md 2; CAC's psp: CCT's without its decoder, with classifier and projector;
# ST++'s has torchvision's backbone (25,557,032 less 2,049,000).
COUNTS = {
  ("cps", 50): 40_475_957,
  ("cps", 101): 59_468_085,
  ("cac", 50): 40_450_869,
  ("cac", 101): 59_442_997,
  ("unimatch", 50): 23_631_808 + 16_838_752 + 5_397,
  ("advsemiseg", 101): 44_048_532,
  ("cct", 50): 46_721_896,
  ("cac_psp", 50): 46_721_896 - 16_296 + (512 + 1) * 21 + (512 + 1) * (512 + 128),
  # ResNet-101 with its stem, ASPP and 'low', classifier and representation, by hand.
  ("u2pl", 101): 42_623_936 + 18_222_848 + 1_776_405 + 1_836_800,
  ("reco", 101): 42_500_160 + 15_547_488 + 706_325 + 766_720,
  ("st", 50): 23_508_032 + 16_838_752 + 5_397,
}


@pytest.mark.slow
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
  with pytest.raises(
    ConfigError, match="'cpss': one of cps, cac, unimatch, reco, u2pl, advsemiseg"
  ):
    networks.choose(schema.default().model, "cpss", 50)


# Name -> (what stands before the backbone, convolutions without bias, with bias, normalizations).
PUBLISHED = {
  "u2pl": (
    "encoder.",
    ("aspp.conv1.1", *(f"aspp.conv{i}.0" for i in (2, 3, 4, 5)), "head.0"),
    ("low_conv.0", *(f"{x}.{i}" for x in ("classifier", "representation") for i in (0, 4, 8))),
    (
      *("aspp.conv1.2", *(f"aspp.conv{i}.1" for i in (2, 3, 4, 5)), "head.1", "low_conv.1"),
      *(f"{x}.{i}" for x in ("classifier", "representation") for i in (1, 5)),
    ),
  ),
  "reco": (
    "resnet_",
    (
      *(*(f"ASPP.convs.{i}.0" for i in range(4)), "ASPP.convs.4.1", "ASPP.project.0"),
      *("project.0", "classifier.0", "representation.0"),
    ),
    ("classifier.3", "representation.3"),
    (
      *(*(f"ASPP.convs.{i}.1" for i in range(4)), "ASPP.convs.4.2", "ASPP.project.1"),
      *("project.1", "classifier.1", "representation.1"),
    ),
  ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_of_u2pl_and_reco(name):
  backbone, plain, biased, norms = PUBLISHED[name]
  model = schema.default().model
  networks.choose(model, name, 50)
  model.deeplabv3plus.auxiliary = name == "u2pl"
  network = build_network(model, num_classes=3, in_channels=3)
  names = list(torch_names.network_names(network).values())
  assert len(set(names)) == len(names)
  expected = {f"{x}.weight" for x in (*plain, *biased, *norms)} | {f"{x}.bias" for x in biased}
  expected |= {f"{x}.{leaf}" for x in norms for leaf in ("bias", "running_mean", "running_var")}
  if name == "u2pl":
    expected = {f"decoder.{x}" for x in expected}
    expected |= {f"auxor.aux.{i}.{leaf}" for i in (0, 1, 4) for leaf in ("weight", "bias")}
    expected |= {f"auxor.aux.1.running_{leaf}" for leaf in ("mean", "var")}
  found = {x.removeprefix(backbone) for x in names if x.startswith(backbone)}
  assert {x for x in names if not x.startswith(backbone)} == expected
  shown = "layer4.2.conv3.weight", "layer2.0.downsample.1.running_var", "bn1.weight"
  assert {*shown, "conv1.3.weight" if name == "u2pl" else "conv1.weight"} < found
