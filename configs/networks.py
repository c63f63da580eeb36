"""Published networks as settings of `config.model`: backbone, output stride, head, options.

A config takes one and may then change single keys.  Keys that a row does not name stay as they are.
"""

from ml_collections import ConfigDict

from semiseg_jax.errors import ConfigError

_KEPT = {"resnet.multi_grid": (1, 1, 1), "resnet.dilate_first": False}

# Name -> settings; '{}' in the backbone stands for its number of layers.
NETWORKS = {
  "cps": {"backbone": "resnet{}_v1s", "output_stride": 16, "head": "deeplabv3plus"},
  "cac": {
    "backbone": "resnet{}",
    "output_stride": 16,
    "head": "deeplabv3plus",
    "deeplabv3plus.variant": "cac",
    "projection.kind": "cac",
    "projection.width": 128,
  },
  "unimatch": {
    **_KEPT,
    "backbone": "resnet{}_v1s",
    "output_stride": 16,
    "head": "deeplabv3plus",
    "deeplabv3plus.variant": "unimatch",
  },
  # AdvSemiSeg and s4GAN; their code sums two of the four branches: deeplabv2.summed = 2.
  "advsemiseg": {
    "backbone": "resnet{}",
    "output_stride": 8,
    "resnet.multi_grid": (1, 1, 1),
    "resnet.caffe_stride": True,
    "resnet.ceil_pool": True,
    "head": "deeplabv2",
  },
  "cct": {**_KEPT, "backbone": "resnet{}_v1s", "output_stride": 8, "head": "pspnet"},
  "st": {
    **_KEPT,
    "backbone": "resnet{}",
    "output_stride": 8,
    "head": "deeplabv3plus",
    "deeplabv3plus.variant": "st",
    "deeplabv3plus.aspp_rates": (12, 24, 36),
  },
}


def choose(model: ConfigDict, name: str, layers: int) -> None:
  """Sets what makes `config.model` the network of a code base, with ResNet-`layers` (50 or 101).

  Raises:
    ConfigError: a name that is not in NETWORKS, with those that are.
  """
  if name not in NETWORKS:
    raise ConfigError(f"network {name!r}: one of {', '.join(NETWORKS)}.")
  model.update_from_flattened_dict(NETWORKS[name])
  model.backbone = model.backbone.format(layers)
