"""Published networks as settings of `config.model`: backbone, output stride, head, options.

A config takes one and may then change single keys.  Keys that a row does not name stay as they are.
"""

from ml_collections import ConfigDict

from semiseg_jax.errors import ConfigError
from semiseg_jax.models import network

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
  "reco": {
    **_KEPT,
    "backbone": "resnet{}",
    "output_stride": 16,
    "head": "deeplabv3plus",
    "deeplabv3plus.variant": "reco",
    "deeplabv3plus.decoder_convs": 1,
    "projection.kind": "reco",
  },
  "u2pl": {
    "resnet.multi_grid": (2, 2, 4),
    "resnet.dilate_first": False,
    "resnet.ceil_pool": True,
    "backbone": "resnet{}_v1s",
    "output_stride": 8,
    "head": "deeplabv3plus",
    "deeplabv3plus.variant": "u2pl",
    "deeplabv3plus.aspp_rates": (12, 24, 36),
    "deeplabv3plus.low_width": 256,
    "projection.kind": "u2pl",
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
  # torchvision's, for classes of whole pictures; published with 101 layers.
  "mlmt": {**_KEPT, "backbone": "resnet{}", "output_stride": 32, "head": "classifier"},
  # CAC's second encoder; published with 50 layers.
  "cac_psp": {
    **_KEPT,
    "backbone": "resnet{}_v1s",
    "output_stride": 8,
    "head": "pspnet",
    "pspnet.variant": "cac",
    "projection.kind": "cac_psp",
    "projection.width": 128,
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


# Size of a ViT -> of its DPT head the channels while fusing, and those of the levels before.
DPT = {
  "small": (64, (48, 96, 192, 384)),
  "base": (128, (96, 192, 384, 768)),
  "large": (256, (256, 512, 1024, 1024)),
}
# DINOv3's further sizes: the head of the DINOv2 of that width; levels of 'huge_plus' and '7b' have
# their own width, as those of DINOv2's giant.  Nobody published a DPT head of this kind for '7b'.
DPT |= {
  "small_plus": DPT["small"],
  "huge_plus": (384, (1280, 1280, 1280, 1280)),
  "7b": (512, (4096, 4096, 4096, 4096)),
}


def dpt(c: ConfigDict, backbone: str) -> None:
  """Sets a ViT as UniMatch V2 has it, in a config that has crops and windows.

  The DPT head of its size (that of 'dinov2_small' is 'small'), crops and windows of whole patches
  (the nearest sizes), and the optimizer.
  """
  c.model.backbone, c.model.head = backbone, "dpt"
  c.model.pretrained = f"data/weights/{backbone}"
  size, patch = backbone.partition("_")[2], network.side_multiple(c.model)
  c.model.output_stride = patch
  if size in DPT:
    c.model.dpt.width, c.model.dpt.level_widths = DPT[size]
  nearest = lambda sides: tuple(max(1, round(side / patch)) * patch for side in sides)
  c.data.crop, c.eval.window = nearest(c.data.crop), nearest(c.eval.window)

  c.optimizer.name = "adamw"
  c.optimizer.learning_rate, c.optimizer.head_multiplier = 5e-6, 40.0
  c.optimizer.weight_decay, c.optimizer.decayed = 0.01, "all"


def fit(c: ConfigDict, backbone: str) -> None:
  """Sets any backbone and what has to go with it, in a config that has crops and an optimizer.

  A ViT is as `dpt` has it, HRNet has the FCN head, every other backbone the head of the config.
  """
  c.model.backbone = backbone
  c.model.pretrained = f"data/weights/{backbone}"
  if network.side_multiple(c.model) > 1:
    dpt(c, backbone)
  elif backbone.startswith("hrnet"):
    c.model.head = "fcn"
