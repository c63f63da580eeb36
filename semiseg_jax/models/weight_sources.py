"""Where the weights of backbones are published, and their SHA-256.

torchvision and timm put the first 8 digits of the SHA-256 into the names of their files, which
torch.hub compares when it loads them.  Meta publishes none for DINOv2: those here are of the files
at these addresses, as the conversion of finegrain-ai/refiners (scripts/conversion/dinov2.py) checks
them.  Nothing is fetched by this program.
"""

import re

from semiseg_jax.arguments import command

_TORCH = "https://download.pytorch.org/models/"
_GLUON = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/"
_DINOV2 = "https://dl.fbaipublicfiles.com/dinov2/"

# Backbone -> the address of its file.
ADDRESSES = {
  "resnet18": f"{_TORCH}resnet18-f37072fd.pth",
  "resnet34": f"{_TORCH}resnet34-b627a593.pth",
  "resnet50": f"{_TORCH}resnet50-0676ba61.pth",
  "resnet101": f"{_TORCH}resnet101-63fe2227.pth",
  "resnet50_v1s": f"{_GLUON}gluon_resnet50_v1s-1762acc0.pth",
  "resnet101_v1s": f"{_GLUON}gluon_resnet101_v1s-60fe0cc1.pth",
  "resnet50_v1c": f"{_GLUON}gluon_resnet50_v1c-48092f55.pth",
  "resnet101_v1c": f"{_GLUON}gluon_resnet101_v1c-1f26822a.pth",
  "mobilenet_v2": f"{_TORCH}mobilenet_v2-b0353104.pth",
  "efficientnet_lite0": f"{_TIMM}v0.1-weights/tf_efficientnet_lite0-0aa007d2.pth",
  "efficientnet_lite2": f"{_TIMM}v0.1-weights/tf_efficientnet_lite2-dcccb7df.pth",
  "hrnet_w32": f"{_TIMM}v0.1-hrnet/hrnetv2_w32-90d8c5fb.pth",
  "hrnet_w48": f"{_TIMM}v0.1-hrnet/hrnetv2_w48-abd2e6ab.pth",
  "dinov2_small": f"{_DINOV2}dinov2_vits14/dinov2_vits14_pretrain.pth",
  "dinov2_base": f"{_DINOV2}dinov2_vitb14/dinov2_vitb14_pretrain.pth",
  "dinov2_large": f"{_DINOV2}dinov2_vitl14/dinov2_vitl14_pretrain.pth",
}
# Backbone -> the SHA-256 of its file, where the name does not begin to say it.
_SHA256 = {
  "dinov2_small": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
  "dinov2_base": "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
  "dinov2_large": "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
}
_IN_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")


def sha256(backbone: str) -> str:
  """Returns the SHA-256 of the published file, or its first 8 digits; '' where none is known."""
  named = _IN_NAME.search(ADDRESSES.get(backbone, ""))
  return named[1] if named else _SHA256.get(backbone, "")


def how_to_get(backbone: str, folder: str) -> str:
  """Returns where the weights of a backbone are published and the command that prepares them."""
  address, digits = ADDRESSES.get(backbone), sha256(backbone)
  file, lines = "FILE", []
  if address:
    file = address.rpartition("/")[2]
    begins = "SHA-256 " if len(digits) == 64 else "SHA-256 begins with "
    lines = [f"They are published at {address} ({begins}{digits}).", f"sha256sum {file}"]
  lines.append(
    f"{command('data_prep.pretrained')} --source {file} --backbone {backbone} --out {folder}"
  )
  return "\n  ".join(lines)
