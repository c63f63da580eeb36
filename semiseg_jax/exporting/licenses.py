"""Under which terms pretrained weights are published that a network began from.

As their publishers state them; nothing here is advice.
"""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from semiseg_jax.models.network import BACKBONES

_IMAGENET = "The pictures of ImageNet are for research that is not commercial, by its own terms."
# Beginning of a backbone's name -> what is published of its weights.
_NOTES = {
  "dinov2": "DINOv2 (Meta): code and weights under Apache-2.0.",
  "resnet50_v1": f"Gluon's ResNets, converted by timm: Apache-2.0. {_IMAGENET}",
  "resnet101_v1": f"Gluon's ResNets, converted by timm: Apache-2.0. {_IMAGENET}",
  "resnet": f"torchvision's ResNets: BSD-3-Clause. {_IMAGENET}",
  "mobilenet_v2": f"torchvision's MobileNetV2: BSD-3-Clause. {_IMAGENET}",
  "efficientnet_lite": f"EfficientNet-Lite, converted by timm: Apache-2.0. {_IMAGENET}",
  "hrnet": f"HRNet (Microsoft), converted by timm: MIT and Apache-2.0. {_IMAGENET}",
}


def notes(models: Iterable[Mapping[str, Any]]) -> list[str]:
  """Returns a line for what each network began from.

  Args:
    models: backbone and pretrained (a folder, '' for none) of each.
  """
  return list(dict.fromkeys(_note(model["backbone"], model["pretrained"]) for model in models))


def _note(backbone: str, pretrained: str) -> str:
  if not pretrained:
    return f"{backbone}: trained from scratch, without pretrained weights."
  own = getattr(BACKBONES[backbone](), "weights_license", "")
  known = next((note for name, note in _NOTES.items() if backbone.startswith(name)), "")
  said = own or known or "see who published them."
  return f"{backbone}, from the pretrained weights {pathlib.PurePath(pretrained).name}: {said}"
