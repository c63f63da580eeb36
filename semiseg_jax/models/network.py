"""A segmentation network: a backbone, a head, and the pure functions that run them.

Backbones state the stride and width of each feature they give; heads state which they need.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from flax import linen as nn

from semiseg_jax.errors import ConfigError
from semiseg_jax.models import initializers, remat
from semiseg_jax.models.backbones import (
  dinov2,
  dinov3,
  efficientnet_lite,
  hrnet,
  mobilenet_v2,
  resnet,
  tiny,
)
from semiseg_jax.models.heads import projection
from semiseg_jax.models.heads.classifier import Classifier
from semiseg_jax.models.heads.deeplabv2 import DeepLabV2
from semiseg_jax.models.heads.deeplabv3plus import DeepLabV3Plus
from semiseg_jax.models.heads.dpt import Dpt
from semiseg_jax.models.heads.fcn import FCN
from semiseg_jax.models.heads.ocr import OCR
from semiseg_jax.models.heads.pspnet import PSPNet
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.parts import Parts, check_channels, declare
from semiseg_jax.ops import symbolic
from semiseg_jax.ops.dtypes import DTYPES
from semiseg_jax.options import key, keys

# Name -> factory; its keyword arguments are `output_stride`, where there is a choice, and the keys
# of the block of its family (`options_block`), where it has one.
BACKBONES = {
  **resnet.BACKBONES,
  **mobilenet_v2.BACKBONES,
  **efficientnet_lite.BACKBONES,
  **hrnet.BACKBONES,
  **dinov2.BACKBONES,
  **dinov3.BACKBONES,
  **tiny.BACKBONES,
}
# Name -> class; its fields are `num_classes` and the keys of the config block of the same name.
HEADS = {
  "classifier": Classifier,
  "deeplabv2": DeepLabV2,
  "deeplabv3plus": DeepLabV3Plus,
  "dpt": Dpt,
  "fcn": FCN,
  "ocr": OCR,
  "pspnet": PSPNet,
}
# Kind -> class; its fields are the keys of the config block `projection`.
PROJECTIONS = projection.PROJECTIONS
COMPAT = ("biased_variance",)

Tree = Any


@dataclasses.dataclass(frozen=True)
class Options:
  """The config block `model`; blocks of its parts are `option_blocks`."""

  backbone: str = key("resnet50_v1s", "what turns pictures into features", one_of=BACKBONES)
  head: str = key("deeplabv3plus", "what turns features into logits", one_of=HEADS)
  output_stride: int = key(
    0, "0 = the backbone's usual one; smaller costs memory and time", at_least=0
  )
  dtype: str = key(
    "float32",
    "of activations; 'bfloat16' halves their memory on GPU and TPU",
    one_of=DTYPES,
  )
  remat: str = key(
    "none",
    "what the backward pass computes again to save memory: 'products' = all but convolutions "
    "(about half of it), 'blocks' = all but blocks' inputs (up to 1/3 more arithmetic), or by "
    "beginnings: 'encoder/layer1=blocks,decoder=products'",
  )
  compat: tuple[str, ...] = key(
    (), "'biased_variance': running variances as PaddlePaddle keeps them", one_of=COMPAT
  )
  pretrained: str = key(
    "", "a folder that data_prep.pretrained wrote; '' = from scratch", free=True
  )
  family: tuple[str, ...] = key(
    (),
    "unlike networks instead of equal ones: for each a text of changes of this block, such as "
    "'backbone=dinov2_small, head=dpt, copies=1'",
  )
  rate: float = key(1.0, "learning rate relative to that of the run; for families", above=0)
  mean: tuple[float, ...] = key((), "of this network's own normalization; () = data.mean")
  std: tuple[float, ...] = key((), "of this network's own normalization; () = data.std", above=0)


@dataclasses.dataclass(frozen=True)
class Network(Parts):
  """One network; parameters and statistics are trees {'encoder': {...}, 'decoder': {...}}.

  With a projection head there is a third part, 'projection'.

  Attributes:
    backbone: its name, under which pretrained weights are kept.
    encoder: module, images -> features.
    decoder: module, features -> outputs.
    in_channels: channels of the images.
    num_classes: channels of the logits.
    dtype: compute dtype that the configuration asks for.
    projection: module, features and outputs of the decoder -> embedding; None: there is none.
    biased_variance: see `Mode`.
    remat: what the backward pass computes again, see models/remat.py.
  """

  backbone: str
  encoder: nn.Module
  decoder: nn.Module
  in_channels: int
  num_classes: int
  dtype: Any
  projection: nn.Module | None = None
  biased_variance: bool = False
  remat: tuple[tuple[str, str], ...] = ()

  @property
  def name(self) -> str:
    """Backbone and head, for logs and result files."""
    return f"{self.backbone}_{type(self.decoder).__name__.lower()}"

  @property
  def align_corners(self) -> bool:
    """How logits are to be resized to the picture."""
    return self.decoder.align_corners

  @property
  def labels_pictures(self) -> bool:
    """Whether its logits are of whole pictures, [B,1,1,num_classes]."""
    return getattr(self.decoder, "labels_pictures", False)

  @property
  def feature_info(self) -> dict[str, tuple[int, int]]:
    """Name of each feature -> (stride, channels)."""
    return self.encoder.feature_info

  def output_info(self, name: str) -> tuple[float, int]:
    """Returns (stride, channels) of an output of the decoder, such as 'features'.

    Raises:
      ConfigError: the head has no such output.
    """
    _, outputs = self._traced()
    if name not in outputs:
      raise ConfigError(
        f"The head {type(self.decoder).__name__} gives no {name!r} (it gives {', '.join(outputs)})."
      )
    _, height, _, channels = outputs[name].shape
    return _dummy_side(self.encoder) / height, channels

  def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the size nearest to `size` that the network takes: multiples of a patch or the same.

    UniMatch V2's rule: int(x / 14 + 0.5) * 14 per side, at least one patch.
    """
    multiple = getattr(self.encoder, "side_multiple", 1)
    nearest = lambda side: (2 * side + multiple) // (2 * multiple) * multiple
    if not symbolic.is_known(*size):
      return size if multiple == 1 else tuple(map(nearest, size))
    return tuple(max(multiple, nearest(side)) for side in size)

  @property
  def parts(self) -> dict[str, nn.Module]:
    """Name of each part of the parameters -> its module, in the order in which they run."""
    parts = {"encoder": self.encoder, "decoder": self.decoder}
    return parts if self.projection is None else {**parts, "projection": self.projection}

  def encode(
    self, params: Tree, batch_stats: Tree, images: jax.Array, mode: Mode
  ) -> tuple[dict[str, jax.Array], Tree]:
    """Images [B,H,W,C], normalized floats -> (features {name: [B,h,w,c]}, all batch_stats)."""
    check_channels(self.name, images, self.in_channels)
    return self._apply("encoder", params, batch_stats, images, mode)

  def decode(
    self, params: Tree, batch_stats: Tree, features: dict[str, jax.Array], mode: Mode
  ) -> tuple[dict[str, jax.Array], Tree]:
    """Features -> (outputs by name, all batch_stats).

    'logits' [B,h,w,num_classes] and, with a projection head, 'embedding' [B,h',w',P] are float32
    at their own stride.
    """
    outputs, batch_stats = self._apply("decoder", params, batch_stats, features, mode)
    if self.projection is None:
      return outputs, batch_stats
    maps = {**features, **outputs}
    embedding, batch_stats = self._apply("projection", params, batch_stats, maps, mode)
    return {**outputs, "embedding": embedding}, batch_stats

  def _declared(self) -> dict[str, dict[str, Tree]]:
    return self._traced()[0]

  @functools.lru_cache(maxsize=8)  # noqa: B019  (a handful of networks per process)
  def _traced(self) -> tuple[dict[str, dict[str, Tree]], Tree]:
    """Declared variables of the parts, and the abstract outputs of the decoder."""
    inputs, encoder = _declare_encoder(self.encoder, self.in_channels)
    outputs, decoder = declare(self.decoder, inputs)
    declared = {"encoder": encoder, "decoder": decoder}
    if self.projection is not None:
      declared["projection"] = declare(self.projection, {**inputs, **outputs})[1]
    return declared, outputs


def _dummy_side(encoder: nn.Module) -> int:
  """Of the pictures that are used to infer shapes."""
  return 2 * max(stride for stride, _ in encoder.feature_info.values())


def _declare_encoder(encoder: nn.Module, in_channels: int) -> tuple[Tree, Tree]:
  side = _dummy_side(encoder)
  images = jax.ShapeDtypeStruct((1, side, side, in_channels), jnp.float32)
  return declare(encoder, images)


def backbone_shapes(backbone: str, in_channels: int) -> tuple[Tree, Tree]:
  """Returns (params, batch_stats) of a backbone as trees of `jax.ShapeDtypeStruct`."""
  # Shapes are the same at every output stride and with every option.
  encoder = _choose(BACKBONES, backbone, "The backbone")()
  _, declared = _declare_encoder(encoder, in_channels)
  return tuple(initializers.shapes(declared.get(kind, {})) for kind in ("params", "batch_stats"))


def build_network(
  model_config: ml_collections.ConfigDict, *, num_classes: int, in_channels: int
) -> Network:
  """Builds the network that a `config.model` block describes.

  Args:
    model_config: backbone, head, output_stride (0: the backbone's usual one), dtype ('float32' |
      'bfloat16'), compat, remat, and a block of options for each head, family of backbones and for
      the projection head.
    num_classes: channels of the logits.
    in_channels: channels of the images.

  Raises:
    ConfigError: an unknown name, an impossible output stride, or a backbone that does not give what
      the head needs; it lists the possible ones.
  """
  encoder = _build_encoder(model_config)
  head = _choose(HEADS, model_config.head, "model.head")
  _check_pair(model_config.backbone, encoder, model_config.head)
  unknown = set(model_config.compat) - set(COMPAT)
  if unknown:
    raise ConfigError(f"model.compat holds {sorted(unknown)}; possible: {', '.join(COMPAT)}.")
  network = Network(
    backbone=model_config.backbone,
    encoder=encoder,
    decoder=head(num_classes=num_classes, **_options(model_config, model_config.head)),
    in_channels=in_channels,
    num_classes=num_classes,
    dtype=_choose(DTYPES, model_config.dtype, "model.dtype"),
    projection=_build_projection(model_config),
    biased_variance="biased_variance" in model_config.compat,
  )
  if model_config.remat == "none":
    return network
  params, _ = network.shapes()
  units = [f"{part}/{unit}" for part, children in params.items() for unit in children]
  return dataclasses.replace(network, remat=remat.parse(model_config.remat, units))


def _build_encoder(model_config: ml_collections.ConfigDict) -> nn.Module:
  factory = _choose(BACKBONES, model_config.backbone, "model.backbone")
  encoder = factory()
  if encoder.options_block:
    encoder = encoder.clone(**_options(model_config, encoder.options_block))
  stride = model_config.output_stride
  if not stride:
    return encoder
  possible = dict.fromkeys(encoder.output_strides)
  _choose(possible, stride, f"model.output_stride of {model_config.backbone}")
  return encoder.clone(output_stride=stride) if len(possible) > 1 else encoder


def _check_pair(backbone: str, encoder: nn.Module, head: str) -> None:
  gives = set(encoder.feature_info)
  missing = [name for name in HEADS[head].needs if name not in gives]
  if missing:
    heads = [name for name, module in HEADS.items() if set(module.needs) <= gives]
    backbones = [
      name for name, make in BACKBONES.items() if set(HEADS[head].needs) <= set(make().feature_info)
    ]
    raise ConfigError(
      f"model.head={head!r} needs the features {missing}, which model.backbone={backbone!r} does "
      f"not give. Heads for {backbone}: {', '.join(heads)}; backbones for {head}: "
      f"{', '.join(backbones)}."
    )


def _build_projection(model_config: ml_collections.ConfigDict) -> nn.Module | None:
  options = _options(model_config, "projection")
  kind = options.pop("kind")
  if kind == "none":
    return None
  return _choose({"none": None, **PROJECTIONS}, kind, "model.projection.kind")(**options)


def _options(model_config: ml_collections.ConfigDict, block: str) -> dict[str, Any]:
  """The keys of a block as hashable keyword arguments; a head without keys has no block."""
  if block not in model_config:
    return {}
  return {
    key: tuple(value) if isinstance(value, (list, tuple)) else value
    for key, value in model_config[block].items()
  }


def option_blocks() -> dict[str, type]:
  """Returns the name of every block of options in `config.model` -> the class that has its keys."""
  families = _blocks_of(tuple(BACKBONES.values()))
  blocks = {**families, **HEADS, "projection": projection.Options}
  return {name: module for name, module in blocks.items() if keys(module)}


@functools.cache  # asked for with every look at a config
def _blocks_of(makes: tuple[Callable[[], nn.Module], ...]) -> dict[str, type]:
  encoders = [make() for make in makes]
  return {encoder.options_block: type(encoder) for encoder in encoders if encoder.options_block}


def blocks_read(model_config: ml_collections.ConfigDict) -> set[str]:
  """Returns the blocks of options that the chosen parts read; `ConfigError` for unknown names."""
  encoder = _choose(BACKBONES, model_config.backbone, "model.backbone")()
  return {model_config.head, encoder.options_block, "projection"}


def side_multiple(model_config: ml_collections.ConfigDict) -> int:
  """Returns what the sides of pictures must be multiples of for the chosen backbone."""
  encoder = _choose(BACKBONES, model_config.backbone, "model.backbone")()
  return getattr(encoder, "side_multiple", 1)


def _choose(options: dict[Any, Any], choice: Any, what: str) -> Any:
  if choice not in options:
    possible = ", ".join(str(option) for option in options)
    raise ConfigError(f"{what} is {choice!r}; possible: {possible}.")
  return options[choice]
