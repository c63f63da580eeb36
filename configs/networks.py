"""Published networks as settings of `config.model`: backbone, output stride, head, options.

A config takes one and may then change single keys.
"""

from ml_collections import ConfigDict

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
}


def choose(model: ConfigDict, name: str, layers: int = 50) -> None:
  """Sets what makes `config.model` the network of a code base, with ResNet-`layers`.

  Raises:
    ValueError: a name that is not in NETWORKS, with those that are.
  """
  if name not in NETWORKS:
    raise ValueError(f"network {name!r}: one of {', '.join(NETWORKS)}.")
  model.update_from_flattened_dict(NETWORKS[name])
  model.backbone = model.backbone.format(layers)
