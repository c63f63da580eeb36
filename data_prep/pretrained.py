"""Turns a PyTorch state dict of a backbone into our parameter tree.

python -m data_prep.pretrained --source FILE.pth --backbone resnet50_v1s --out data/weights/r50

The source is what torch.save, pickle, safetensors or numpy.savez wrote (.pth, .pt, .pth.tar, .bin,
.ckpt, .pkl, .safetensors, .npz; torch is not needed, and nothing in a file is run), of torchvision,
timm, TorchSemiSeg, mmsegmentation, HRNet, DINOv2 or DINOv3 (its authors', timm's and Hugging
Face's), or of a whole network that has such a backbone.  Nothing is fetched: get the file where its
license is given, such as Meta's own for DINOv3.
Wrapping keys and prefixes are recognized and said; where several networks fit, --prefix chooses.
Every tensor of the source is used or listed as unused; every parameter of the backbone must be
there with its own shape (a table of positions as well: it is not resampled here).
"""

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from flax import traverse_util

from data_prep import command
from data_prep.weights import alike, dinov3, matching, namings, sound
from semiseg_jax import arguments, files
from semiseg_jax.models.network import BACKBONES, backbone_shapes
from semiseg_jax.models.pretrained import METADATA_FILE, PARAMS_FILE, file_sha256
from semiseg_jax.models.torch import torch_names
from semiseg_jax.models.torch.files import read_source
from semiseg_jax.workdir import store


@dataclasses.dataclass(frozen=True)
class Converted:
  """A backbone found in a state dict.

  arrays: 'params/<path>' or 'batch_stats/<path>' -> float32 array.  match: where it was found.
  unused: names of the source that were not taken.
  """

  arrays: dict[str, np.ndarray]
  match: matching.Match
  unused: list[str]


def convert(
  state: Mapping[str, np.ndarray], backbone: str, prefixes: Sequence[str] = ()
) -> Converted:
  """Maps a state dict to our names and layouts.

  Args:
    state: state-dict name -> array in PyTorch's layout.
    backbone: a name in BACKBONES that PyTorch has, e.g. 'resnet50_v1s'.
    prefixes: one beginning of names, where several networks fit.

  Raises:
    WeightsError: see `matching.find`, `sound.check` and `alike.check_registers`.
  """
  rules = torch_names.backbone_rules(backbone)
  shapes = dict(zip(("params", "batch_stats"), backbone_shapes(backbone, in_channels=3)))
  leaves = traverse_util.flatten_dict(shapes)
  names = {path: torch_names.torch_name(rules, path[1:]) for path in leaves}
  alike.check_registers(state, names.values(), backbone)
  state = dinov3.gathered(state, names.values())
  (match,) = matching.find(
    state,
    {names[path]: torch_names.torch_shape(leaf.shape) for path, leaf in leaves.items()},
    what=backbone,
    optional=getattr(BACKBONES[backbone](), "torch_optional", ()),
    namings=namings.namings(backbone),
    prefixes=prefixes,
  )
  sound.check(state, [match])
  arrays = {
    "/".join(path): _array(state, match.names.get(names[path]), leaf.shape)
    for path, leaf in leaves.items()
  }
  return Converted(arrays, match, matching.unused(state, [match]))


def _array(state: Mapping[str, np.ndarray], name: str | None, shape: tuple[int, ...]) -> np.ndarray:
  if name is None:  # optional: nothing reads it
    return np.zeros(shape, np.float32)
  return np.ascontiguousarray(torch_names.from_torch(state[name]), np.float32)


def prepare(
  source: str, backbone: str, out: str, prefixes: Sequence[str] = ()
) -> tuple[dict, list[str]]:
  """Converts `source` and writes the folder `out`; returns the metadata written and what to say.

  The hash in the metadata, written last, binds it to the parameters, so that a half-written folder
  is never taken for a finished one.
  """
  store.refuse(out, "--out")
  read = read_source(source)
  converted = convert(read.tensors, backbone, prefixes)
  arrays, notes = converted.arrays, alike.notes(backbone, [converted.match], source)
  folder = pathlib.Path(out)
  folder.mkdir(parents=True, exist_ok=True)
  with files.whole(folder / PARAMS_FILE) as partial, open(partial, "wb") as file:
    np.savez(file, **arrays)
  metadata = {
    "backbone": backbone,
    "source": pathlib.Path(source).name,
    "source_sha256": file_sha256(source),
    "params_sha256": file_sha256(folder / PARAMS_FILE),
    "tensors": len(arrays),
    "numbers": sum(array.size for array in arrays.values()),
    "naming": converted.match.naming,
    "prefix": converted.match.prefix,
    "zeros": list(converted.match.absent),
    "unused": converted.unused,
  }
  files.write_text(folder / METADATA_FILE, json.dumps(metadata, indent=2) + "\n")
  return metadata, [
    f"{backbone}: {metadata['tensors']} tensors, {metadata['numbers']:,} numbers from "
    f"{metadata['source']} -> {out}",
    f"Recognized: {converted.match.describe()}",
    *matching.describe_unused(converted.unused, [converted.match]),
    *read.describe_left(),
    *notes,
    *filter(None, [getattr(BACKBONES[backbone](), "weights_license", "")]),
  ]


def main(argv: Sequence[str] | None = None) -> None:
  """Command line."""
  parser = arguments.Parser(
    "data_prep.pretrained",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--source", required=True, help="the file of weights")
  parser.add_argument("--backbone", required=True, choices=torch_names.published_backbones())
  parser.add_argument("--out", required=True, help="folder to write")
  parser.add_argument(
    "--prefix", action="append", default=[], help="which network, where several fit: model_ema"
  )
  given = parser.parse_args(argv)
  with command.ending():
    _, lines = prepare(given.source, given.backbone, given.out, given.prefix)
    print("\n".join(lines))


if __name__ == "__main__":
  main()
