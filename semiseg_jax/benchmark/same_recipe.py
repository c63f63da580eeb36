"""The recipe of a config for the PyTorch step, and our parameters with its names."""

from typing import Any

import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from semiseg_jax.benchmark.torch.recipe import Recipe
from semiseg_jax.errors import ConfigError
from semiseg_jax.methods.contract import SEGMENTATION
from semiseg_jax.methods.method import Method
from semiseg_jax.models.backbones import mobilenet_v2, resnet, tiny
from semiseg_jax.models.backbones.mobilenet_v2 import MobileNetV2
from semiseg_jax.models.backbones.resnet import ResNet
from semiseg_jax.models.backbones.tiny import Tiny
from semiseg_jax.models.heads.deeplabv3plus import DeepLabV3Plus
from semiseg_jax.models.network import Network
from semiseg_jax.models.torch import torch_names
from semiseg_jax.training import optimizers

_PLAIN = {  # keys whose other values the PyTorch step does not have
  "method.name": ("cps",),
  "method.add": ((),),
  "method.supervised_loss": ("ce", "ohem"),
  "method.class_weighting": ("equal",),
  "method.loss_group": (0,),
  "method.pseudo_label_bn": ("train",),
  "model.head": ("deeplabv3plus",),
  "model.family": ((),),
  "model.remat": ("none",),
  "model.deeplabv3plus.variant": ("torchsemiseg",),
  "model.projection.kind": ("none",),
  "optimizer.name": ("sgd",),
  "optimizer.multipliers": ((),),
  "optimizer.layer_decay": (1.0,),
  "optimizer.frozen_norms": (False,),
  "train.accumulate": (1,),
  "train.bn_group": (0,),
}


def recipe_of(config: ConfigDict, method: Method, classes: int) -> Recipe:
  """Returns what the PyTorch step does; lambda is the full one.

  Raises:
    ConfigError: the config asks for what that step does not have; the message lists what it has.
  """
  _check(config)
  c, o = config.method, config.optimizer
  options = optimizers.Options(
    **{k: tuple(v) if isinstance(v, list | tuple) else v for k, v in o.items()}
  )
  (member, *_) = method.members[SEGMENTATION]
  network = member.stack.network
  backbone, encoder = _encoder(network)
  return Recipe(
    backbone=backbone,
    encoder=encoder,
    head=_head(network.decoder),
    networks=c.networks,
    classes=classes,
    crop=tuple(config.data.crop),
    labeled=config.train.batch_labeled,
    unlabeled=config.train.batch_unlabeled,
    cutmix={"boxes": c.cutmix_boxes, "area": tuple(c.cutmix_area)} if c.cutmix else {},
    supervised=c.supervised_loss,
    ohem=(c.ohem_threshold, c.ohem_kept_fraction),
    weight=c.weight,
    optimizer={
      "rate": optimizers.rate(options, config.train.steps, 0),
      "head": o.head_multiplier,
      "momentum": o.momentum,
      "nesterov": o.nesterov,
      "decay": o.weight_decay,
      "decayed": o.decayed,
    },
    mean=tuple(config.data.mean),
    std=tuple(config.data.std),
    dtype=config.model.dtype,
  )


def _check(config: ConfigDict) -> None:
  for key, possible in _PLAIN.items():
    value: Any = config
    for name in key.split("."):
      value = value[name]
    value = tuple(value) if isinstance(value, list | tuple) else value
    if value not in possible:
      raise ConfigError(
        f"--compare=torch: {key}={value!r}: the PyTorch step has "
        f"{' or '.join(map(repr, possible))} alone; change it in both, --config.{key}=..."
      )


def _encoder(network: Network) -> tuple[str, dict[str, Any]]:
  encoder = network.encoder
  if isinstance(encoder, ResNet):
    options = {
      "stem": resnet.STEMS[encoder.stem],
      "plan": encoder.block_plan(),
      "bottleneck": encoder.bottleneck,
      "caffe_stride": encoder.caffe_stride,
      "ceil": encoder.ceil_pool,
    }
  elif isinstance(encoder, MobileNetV2):
    options = {"rows": mobilenet_v2.ROWS, "output_stride": encoder.output_stride}
  elif isinstance(encoder, Tiny):
    strides, dilation = tiny.STRIDES[encoder.output_stride]
    options = {"widths": tiny.WIDTHS, "strides": strides, "dilation": dilation}
  else:
    raise ConfigError(
      f"--compare=torch: model.backbone={network.backbone!r}: the PyTorch step has the ResNets, "
      "mobilenet_v2 and tiny."
    )
  return type(encoder).__name__, options


def _head(head: DeepLabV3Plus) -> dict[str, Any]:
  return {
    "aspp_width": head.aspp_width,
    "aspp_rates": head.aspp_rates,
    "low_width": head.low_width,
    "decoder_width": head.decoder_width,
    "convs": head.decoder_convs,
  }


def leaves(params: Any, stats: Any, k: int) -> dict[str, np.ndarray]:
  """Returns copy k of a stack with names and layouts of the PyTorch step.

  Args:
    params: [n, ...].
    stats: [n, ...].
    k: of the copies.
  """
  found = {}
  for tree in (params, stats):
    for path, leaf in traverse_util.flatten_dict(tree).items():
      name = ".".join((*path[:-1], torch_names.LEAVES[path[-1]]))
      found[name] = torch_names.to_torch(leaf[k])
  return found
