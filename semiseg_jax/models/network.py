"""A segmentation network: a backbone, a head, and the pure functions that run them."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn

from semiseg_jax.models import initializers
from semiseg_jax.models.deeplabv3plus import DeepLabV3Plus
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.mobilenet_v2 import MobileNetV2
from semiseg_jax.models.resnet import ResNet
from semiseg_jax.models.tiny import Tiny

BACKBONES = {
  "resnet50": functools.partial(ResNet, depths=(3, 4, 6, 3)),
  "resnet101": functools.partial(ResNet, depths=(3, 4, 23, 3)),
  "mobilenet_v2": MobileNetV2,
  "tiny": Tiny,
}
HEADS = ("deeplabv3plus",)
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

Tree = Any


@dataclasses.dataclass(frozen=True)
class Network:
  """One network; parameters and statistics are trees {'encoder': {...}, 'decoder': {...}}.

  Attributes:
    backbone: its name, under which pretrained weights are kept.
    encoder: module, images -> features.
    decoder: module, features -> outputs.
    in_channels: channels of the images.
    num_classes: channels of the logits.
    dtype: compute dtype that the configuration asks for; callers put it into their `Mode`.
  """

  backbone: str
  encoder: nn.Module
  decoder: nn.Module
  in_channels: int
  num_classes: int
  dtype: Any

  @property
  def name(self) -> str:
    """Backbone and head, for logs and result files."""
    return f"{self.backbone}_{type(self.decoder).__name__.lower()}"

  @property
  def align_corners(self) -> bool:
    """How logits are to be resized to the picture."""
    return self.decoder.align_corners

  @property
  def feature_info(self) -> dict[str, tuple[int, int]]:
    """Name of each feature -> (stride, channels)."""
    return self.encoder.feature_info

  def init(self, seed: tuple[int, ...]) -> tuple[Tree, Tree]:
    """Draws (params, batch_stats), float32 numpy trees, from the seed words (integers >= 0)."""
    drawn = {
      part: {kind: initializers.draw(tree, seed, part) for kind, tree in declared.items()}
      for part, declared in self._declared().items()
    }
    return tuple({part: drawn[part][kind] for part in drawn} for kind in ("params", "batch_stats"))

  def shapes(self) -> tuple[Tree, Tree]:
    """Returns (params, batch_stats) as trees of `jax.ShapeDtypeStruct`."""
    declared = self._declared()
    return tuple(
      {part: initializers.shapes(declared[part][kind]) for part in declared}
      for kind in ("params", "batch_stats")
    )

  def encode(
    self, params: Tree, batch_stats: Tree, images: jax.Array, mode: Mode
  ) -> tuple[dict[str, jax.Array], Tree]:
    """Images [B,H,W,C], normalised floats -> (features {name: [B,h,w,c]}, all batch_stats)."""
    if images.ndim != 4 or images.shape[-1] != self.in_channels:
      raise ValueError(
        f"{self.name}: images of shape {images.shape}; expected [B,H,W,{self.in_channels}]."
      )
    return self._apply("encoder", params, batch_stats, images, mode)

  def decode(
    self, params: Tree, batch_stats: Tree, features: dict[str, jax.Array], mode: Mode
  ) -> tuple[dict[str, jax.Array], Tree]:
    """Features -> ({'logits': [B,h,w,num_classes] float32, head's stride}, all batch_stats)."""
    return self._apply("decoder", params, batch_stats, features, mode)

  def _apply(self, part: str, params: Tree, batch_stats: Tree, inputs: Any, mode: Mode):
    variables = {"params": params[part], "batch_stats": batch_stats[part]}
    module = getattr(self, part)
    if mode.bn != "train":
      return module.apply(variables, inputs, mode), batch_stats
    outputs, moved = module.apply(variables, inputs, mode, mutable=["batch_stats"])
    return outputs, {**batch_stats, part: moved["batch_stats"]}

  @functools.lru_cache(maxsize=8)  # noqa: B019  (a handful of networks per process)
  def _declared(self) -> dict[str, dict[str, Tree]]:
    features, encoder = _declare_encoder(self.encoder, self.in_channels)
    init = lambda x: self.decoder.init(jax.random.key(0), x, Mode("eval"))
    return {"encoder": encoder, "decoder": jax.eval_shape(init, features)}


def _declare_encoder(encoder: nn.Module, in_channels: int) -> tuple[Tree, Tree]:
  """Returns the abstract features and the declared variables of an encoder."""
  stride = max(stride for stride, _ in encoder.feature_info.values())
  images = jax.ShapeDtypeStruct((1, 2 * stride, 2 * stride, in_channels), jnp.float32)
  init = lambda x: encoder.init_with_output(jax.random.key(0), x, Mode("eval"))
  return jax.eval_shape(init, images)


def backbone_shapes(backbone: str, in_channels: int) -> tuple[Tree, Tree]:
  """Returns (params, batch_stats) of a backbone as trees of `jax.ShapeDtypeStruct`."""
  factory = _choose(BACKBONES, backbone, "The backbone")
  # Shapes are the same at every output stride.
  _, declared = _declare_encoder(factory(output_stride=16), in_channels)
  return tuple(initializers.shapes(declared[kind]) for kind in ("params", "batch_stats"))


def build_network(
  model_config: ml_collections.ConfigDict, *, num_classes: int, in_channels: int
) -> Network:
  """Builds the network that a `config.model` block describes.

  Args:
    model_config: backbone, head, output_stride, aspp_width, aspp_rates, low_width, decoder_width,
      decoder_convs, dtype ('float32' | 'bfloat16').
    num_classes: channels of the logits.
    in_channels: channels of the images.

  Raises:
    ValueError: an unknown name or an impossible output stride; it lists the possible ones.
  """
  factory = _choose(BACKBONES, model_config.backbone, "model.backbone")
  _choose(dict.fromkeys(HEADS), model_config.head, "model.head")
  encoder = factory(output_stride=model_config.output_stride)
  _choose(
    dict.fromkeys(encoder.output_strides),
    encoder.output_stride,
    f"model.output_stride of {model_config.backbone}",
  )
  return Network(
    backbone=model_config.backbone,
    encoder=encoder,
    decoder=DeepLabV3Plus(
      num_classes=num_classes,
      aspp_width=model_config.aspp_width,
      aspp_rates=tuple(model_config.aspp_rates),
      low_width=model_config.low_width,
      decoder_width=model_config.decoder_width,
      decoder_convs=model_config.decoder_convs,
    ),
    in_channels=in_channels,
    num_classes=num_classes,
    dtype=_choose(DTYPES, model_config.dtype, "model.dtype"),
  )


def _choose(options: dict[Any, Any], choice: Any, what: str) -> Any:
  if choice not in options:
    possible = ", ".join(str(option) for option in options)
    raise ValueError(f"{what} is {choice!r}; possible: {possible}.")
  return options[choice]
