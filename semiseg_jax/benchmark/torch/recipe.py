"""What a PyTorch step has to know of ours: plain values that go through JSON."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A step of CPS, with CutMix or without.

  Attributes:
    backbone: 'ResNet', 'MobileNetV2' or 'Tiny', our classes.
    encoder, head: of its networks, see `networks`.
    networks: N.
    classes: channels of the logits.
    crop: (height, width).
    labeled, unlabeled: pictures of a batch; with CutMix there are twice as many unlabeled ones.
    cutmix: keys of the boxes, 'boxes' and 'area'; {}: there is no CutMix.
    supervised: 'ce', or 'ohem' with `ohem`, (threshold, kept fraction).
    weight: lambda.
    optimizer: 'rate', 'head' (factor of all but the encoder), 'momentum', 'nesterov', 'decay' and
      'decayed' of SGD.
    mean, std: of the pictures, in units of 1.
    dtype: of activations.
  """

  backbone: str
  encoder: dict[str, Any]
  head: dict[str, Any]
  networks: int
  classes: int
  crop: tuple[int, int]
  labeled: int
  unlabeled: int
  cutmix: dict[str, Any]
  supervised: str
  ohem: tuple[float, float]
  weight: float
  optimizer: dict[str, Any]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  dtype: str

  @property
  def pictures(self) -> int:
    """Of a step."""
    return self.labeled + self.unlabeled * (2 if self.cutmix else 1)
