"""How published numbers were measured: one frozen entry for each family and data set.

`evaluate --protocol=NAME` chooses one, `--protocol=list` prints all; config files take it as
`:protocol=NAME`.  Network, stack and batch are no part of an entry: the numbers of the CPS family
are those of its first network, those of UniMatch V2 of the teacher.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from semiseg_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Published:
  """fields: of `protocol.Protocol`.  source: who measured so, and what is not the same here."""

  fields: Mapping[str, Any]
  source: str


def _slide(side: int, stride: int, border: str, summed: str) -> dict[str, Any]:
  return {
    "mode": "slide",
    "window": (side, side),
    "stride": (stride, stride),
    "border": border,
    "summed": summed,
  }


def _whole(whole: str, multiple: int = 0) -> dict[str, Any]:
  return {"mode": "whole", "whole": whole, **({"multiple": multiple} if multiple else {})}


def _one(fields: dict[str, Any], source: str) -> Published:
  views = {"summed": "", "scales": (1.0,), "flip": False}
  return Published(MappingProxyType(views | fields), source)


_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
_CAC = "pictures are mirrored below and to the right up to multiples of 8"
_HRNET = "their test resizes logits of stride 4 bicubically at once, ours as the network does"

PROTOCOLS: Mapping[str, Published] = MappingProxyType(
  {
    "cps_voc": _one(
      _slide(512, 342, "shifted", "logits"),
      "CPS (Chen et al., CVPR 2021), TorchSemiSeg; pictures in the middle of one window",
    ),
    "cps_city": _one(
      _slide(800, 534, "shifted", "logits"),
      "CPS (Chen et al., CVPR 2021), TorchSemiSeg; eight windows of 1024x2048",
    ),
    "u2pl_city": _one(
      _slide(769, 513, "shifted", "logits"),
      "U2PL (Wang et al., CVPR 2022); their training shows the middle of pictures only",
    ),
    "self_training_voc": _one(_whole("as_is"), "ST++ (Yang et al., CVPR 2022)"),
    "unimatch_voc": _one(
      _whole("as_is"), "FixMatch and UniMatch (Yang et al., CVPR 2023), `original`; COCO too"
    ),
    "unimatch_city": _one(
      _slide(801, 534, "cut", "probabilities"),
      "FixMatch and UniMatch (Yang et al., CVPR 2023), `sliding_window`; last windows are smaller",
    ),
    "unimatch_city_center_crop": _one(
      {"mode": "center_crop", "window": (801, 801)},
      "FixMatch and UniMatch, `center_crop`, of earlier papers; not comparable with the others",
    ),
    "unimatch_v2_voc": _one(
      {"mode": "resize_to_multiple", "multiple": 14},
      "UniMatch V2 (Yang et al., TPAMI 2025); ADE20K and COCO too",
    ),
    "unimatch_v2_city": _one(
      _slide(798, 532, "shifted", "probabilities"),
      "UniMatch V2 (Yang et al., TPAMI 2025); eight windows of 1024x2048",
    ),
    "advsemiseg_voc": _one(
      _slide(505, 337, "padded", "logits"),
      "AdvSemiSeg (Hung et al., BMVC 2018) and S4GAN; one window with the picture at its top left. "
      "They leave classes without a hit out of the mean, we count them with 0",
    ),
    "cct_voc": _one(_whole("reflected", 8), f"CCT (Ouali et al., CVPR 2020); {_CAC}"),
    "cac_voc": _one(_whole("reflected", 8), f"CAC (Lai et al., CVPR 2021); {_CAC}"),
    "cac_city": _one(_whole("reflected", 8), f"CAC (Lai et al., CVPR 2021); {_CAC}"),
    "pixel_contrast_city": _one(
      _whole("as_is"), f"ContrastiveSeg (Wang et al., ICCV 2021), one scale; {_HRNET}"
    ),
    "pixel_contrast_city_multi_scale": _one(
      {
        **_whole("as_is"),
        "summed": "logits",
        "flip": True,
        "scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
      },
      f"ContrastiveSeg (Wang et al., ICCV 2021), seven scales and mirrored; {_HRNET}",
    ),
  }
)


def find(name: str) -> Published:
  """Returns an entry; ConfigError where there is none of this name."""
  if name not in PROTOCOLS:
    near = difflib.get_close_matches(name, PROTOCOLS, n=1)
    mean = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
      f"protocol {name!r}: one of {', '.join(PROTOCOLS)}.{mean} `evaluate --protocol=list` says "
      "what each is."
    )
  return PROTOCOLS[name]


def listing() -> str:
  """Returns all entries as text, for people."""
  lines = []
  for name, entry in PROTOCOLS.items():
    said = ((key, value) for key, value in sorted(entry.fields.items()) if value != "")
    fields = ", ".join(f"{key}={_text(value)}" for key, value in said)
    lines.append(f"{name}\n  {fields}\n  {entry.source}")
  return "\n".join(lines)


def _text(value: Any) -> str:
  return "x".join(f"{x:g}" for x in value) if isinstance(value, tuple) else str(value)
