"""Networks whose tensors have the same names and shapes, and whose arithmetic differs.

The tensors cannot tell them apart.  The name of the file can, or the `architecture` in the
config.json beside it (as timm publishes on Hugging Face); where neither does, the user is told.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Collection, Iterable

from ml_collections import ConfigDict

from data_prep.weights.matching import Match
from data_prep.weights.namings import USUAL
from semiseg_jax.errors import WeightsError

_REGISTERS = re.compile(r"(^|[._])(register_tokens|reg_token|storage_tokens)$")


@dataclasses.dataclass(frozen=True)
class Twin:
  """Another network with the tensors of ours.

  backbones: ours, a regular expression.  named: of names that tell of the other.  own: of names
  that tell of ours.  what: the other, and what it does otherwise.  mend: what to do with it.
  switch: the mend is a key of the config, so the weights are right and the key is said.
  """

  backbones: str
  named: str
  own: str
  what: str
  mend: str
  switch: bool = False


_PLAIN = r"(?<!tf_)efficientnet_lite"
_NONE = "there is no such backbone here"
TWINS = (
  Twin(
    r"efficientnet_lite0",
    rf"{_PLAIN}0",
    r"tf_efficientnet_lite0",
    "timm's efficientnet_lite0 without tf_ (symmetric padding, epsilon 1e-5, pictures normalized "
    "by ImageNet's mean and std)",
    "--backbone efficientnet_lite0_timm",
  ),
  Twin(
    r"efficientnet_lite2",
    rf"{_PLAIN}2",
    r"tf_efficientnet_lite2",
    "timm's efficientnet_lite2 without tf_ (symmetric padding, epsilon 1e-5)",
    _NONE,
  ),
  Twin(
    r"efficientnet_lite0_timm",
    r"tf_efficientnet_lite0",
    rf"{_PLAIN}0",
    "TensorFlow's, which timm calls tf_efficientnet_lite0 (padding to one side, epsilon 1e-3, "
    "pictures in (x - 127) / 128)",
    "--backbone efficientnet_lite0",
  ),
  Twin(
    r"resnet\d+",
    r"resnet(blur|aa)\d",
    r"(?<![a-z])resnet\d+(?!\w*caffe)",
    "timm's resnetblur and resnetaa (strides by a blur or an average)",
    _NONE,
  ),
  Twin(
    r"resnet(50|101)(_v1[cs])?",
    r"caffe|msra|detectron|resnet\d+coco",
    r"(?<![a-z])resnet\d+",
    "Caffe's, as of detectron and DeepLabv2 (strides on the first 1x1, BGR pictures in 0..255)",
    "train with --config.model.resnet.caffe_stride=True and the mean and std of its pictures",
    switch=True,
  ),
)
_HRNET = (
  "NOTE: HRNet's ImageNet weights (the authors', timm's) were trained with branches enlarged by "
  "the nearest pixel; here, as in the authors' segmentation, it is bilinear: training starts well "
  "from them, but features are not the classifier's own."
)


def notes(backbone: str, matches: Iterable[Match], source: str) -> list[str]:
  """Returns what to say of a backbone's weights.

  Args:
    backbone: ours, as which the source is read.
    matches: where it was found.
    source: path of the file.

  Raises:
    WeightsError: the file's name, or config.json beside it, tells of the other network.
  """
  said, names = [], _names(pathlib.Path(source))
  usual = all(match.naming == USUAL for match in matches)
  for twin in TWINS:
    if not re.fullmatch(twin.backbones, backbone):
      continue
    told = [name for name in names if re.search(twin.named, name)]
    if told and twin.switch:
      said.append(f"NOTE: {told[0]} tells of {twin.what}: {twin.mend}.")
    elif told:
      raise WeightsError(
        f"{told[0]} tells of {twin.what}. Its tensors have the names and shapes of {backbone}, and "
        f"need other arithmetic: {twin.mend}; if the name misleads, rename the file."
      )
    elif usual and not any(re.search(twin.own, name) for name in names):
      said.append(
        f"NOTE: the tensors cannot tell {backbone} from {twin.what}; if the file is of these: "
        f"{twin.mend}."
      )
  return said + ([_HRNET] if backbone.startswith("hrnet") else [])


def notes_of_whole(model: ConfigDict) -> list[str]:
  """Returns what to say of a whole network, of the block `config.model`."""
  if not model.backbone.startswith("hrnet"):
    return []
  hrnet = model.hrnet
  return [
    f"NOTE: the tensors do not tell how HRNet pads and enlarges; it runs with model.hrnet.padding="
    f"{hrnet.padding}, model.hrnet.align_corners={hrnet.align_corners}, model.compat="
    f"{tuple(model.compat)}, which must be those of the code that trained it."
  ]


def _names(source: pathlib.Path) -> list[str]:
  """The file's name, and the architecture that a config.json beside it gives."""
  names = [source.name.lower()]
  try:
    config = json.loads((source.parent / "config.json").read_text())
    names.append(str(config["architecture"]).lower())
  except (OSError, ValueError, LookupError, TypeError, RecursionError):
    pass  # no such file, or another program's
  return names


def check_registers(state: Collection[str], wanted: Collection[str], what: str) -> None:
  """Refuses a transformer with register tokens where one without them is wanted.

  Raises:
    WeightsError: it names the tokens.
  """
  tokens = [name for name in state if _REGISTERS.search(name)]
  transformer = any(name.endswith("cls_token") for name in wanted)
  if tokens and transformer and not any(_REGISTERS.search(name) for name in wanted):
    raise WeightsError(
      f"The source has register tokens ({', '.join(tokens)}): it is a transformer with registers "
      f"(DINOv2's files named _reg4), and {what} has none. Give the weights without registers, or "
      "a DINOv3, which has them."
    )
