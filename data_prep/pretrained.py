"""Turns a PyTorch state dict of a backbone into our parameter tree.

python -m data_prep.pretrained --source FILE.pth --backbone resnet50_v1s --out data/weights/r50

The source is an .npz whose arrays carry state-dict names, or a .pth/.pt file (needs torch).  Every
tensor of the source is used or listed as unused; every parameter of the backbone must be there with
its own shape.
"""

import argparse
import json
import os
import pathlib
from collections.abc import Collection, Mapping

import numpy as np
from flax import traverse_util

from semiseg_jax.models import torch_names
from semiseg_jax.models.network import backbone_shapes
from semiseg_jax.models.pretrained import METADATA_FILE, PARAMS_FILE, PretrainedError, file_sha256

# Under these keys training scripts wrap the state dict.
WRAPPERS = ("model", "state_dict")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads an .npz, .pth or .pt file: state-dict name -> array (floats as float32)."""
  suffix = pathlib.Path(path).suffix
  if not os.path.exists(path):
    raise PretrainedError(f"--source {path} does not exist.")
  if suffix == ".npz":
    with np.load(path) as arrays:
      state = dict(arrays)
  elif suffix in (".pth", ".pt"):
    state = _read_torch(path)
  else:
    raise PretrainedError(f"--source {path} ends in {suffix!r}; readable are .npz, .pth and .pt.")
  return {
    name: array.astype(np.float32) if array.dtype.kind == "f" else array
    for name, array in state.items()
  }


def _read_torch(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  try:
    import torch
  except ImportError as error:
    raise PretrainedError(
      f"{path}: reading .pth and .pt files needs PyTorch (pip install torch); an .npz of the same "
      "arrays does not"
    ) from error
  state = torch.load(path, map_location="cpu", weights_only=True)
  for wrapper in WRAPPERS:
    if isinstance(state.get(wrapper), Mapping):
      state = state[wrapper]
  tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
  return {
    name: (value.float() if value.is_floating_point() else value).numpy()
    for name, value in tensors.items()
  }


def convert(state: Mapping[str, np.ndarray], backbone: str) -> tuple[dict, list[str]]:
  """Maps a state dict to our names and layouts.

  Args:
    state: state-dict name -> array in PyTorch's layout.
    backbone: 'resnet50_v1s', 'resnet101_v1s' or 'mobilenet_v2'.

  Returns:
    Flat dict 'params/<path>' or 'batch_stats/<path>' -> float32 array, and the names of the source
    that were not used.

  Raises:
    PretrainedError: parameters that the source lacks (all are named), or a shape that differs.
  """
  rules = torch_names.backbone_rules(backbone)
  shapes = dict(zip(("params", "batch_stats"), backbone_shapes(backbone, in_channels=3)))
  wanted = {
    path: (torch_names.torch_name(rules, path[1:]), torch_names.torch_shape(leaf.shape))
    for path, leaf in traverse_util.flatten_dict(shapes).items()
  }
  _check_source(state, wanted.values(), backbone)
  arrays = {
    "/".join(path): np.ascontiguousarray(torch_names.from_torch(state[name]), np.float32)
    for path, (name, _) in wanted.items()
  }
  return arrays, sorted(set(state) - {name for name, _ in wanted.values()})


def _check_source(
  state: Mapping[str, np.ndarray], wanted: Collection[tuple[str, tuple]], backbone: str
) -> None:
  missing = sorted(name for name, _ in wanted if name not in state)
  if missing:
    raise PretrainedError(
      f"The source lacks {len(missing)} tensors of {backbone}: {', '.join(missing)}. It has: "
      f"{', '.join(sorted(state)[:10])}, ... Is it another network, or are its keys prefixed?"
    )
  for name, shape in wanted:
    if state[name].shape != shape:
      raise PretrainedError(
        f"{name}: the source has shape {state[name].shape}, {backbone} needs "
        f"{shape}; the source is another variant of the network."
      )


def prepare(source: str, backbone: str, out: str) -> dict:
  """Converts `source` and writes the folder `out`; returns the metadata written.

  The hash in the metadata, written last, binds it to the parameters, so that a half-written folder
  is never taken for a finished one.
  """
  arrays, unused = convert(read_state_dict(source), backbone)
  folder = pathlib.Path(out)
  folder.mkdir(parents=True, exist_ok=True)
  partial = folder / f".{PARAMS_FILE}.partial"
  with open(partial, "wb") as file:
    np.savez(file, **arrays)
  os.replace(partial, folder / PARAMS_FILE)
  metadata = {
    "backbone": backbone,
    "source": pathlib.Path(source).name,
    "source_sha256": file_sha256(source),
    "params_sha256": file_sha256(folder / PARAMS_FILE),
    "tensors": len(arrays),
    "numbers": sum(array.size for array in arrays.values()),
    "unused": unused,
  }
  partial = folder / f".{METADATA_FILE}.partial"
  partial.write_text(json.dumps(metadata, indent=2) + "\n")
  os.replace(partial, folder / METADATA_FILE)
  return metadata


def main() -> None:
  """Command line."""
  parser = argparse.ArgumentParser(
    prog="python -m data_prep.pretrained",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--source", required=True, help=".npz, .pth or .pt state dict")
  parser.add_argument("--backbone", required=True, choices=torch_names.published_backbones())
  parser.add_argument("--out", required=True, help="folder to write")
  arguments = parser.parse_args()
  try:
    metadata = prepare(arguments.source, arguments.backbone, arguments.out)
  except PretrainedError as error:
    parser.exit(1, f"error: {error}\n")
  print(
    f"{metadata['backbone']}: {metadata['tensors']} tensors, {metadata['numbers']:,} numbers "
    f"from {metadata['source']} -> {arguments.out}"
  )
  if metadata["unused"]:
    print(f"Not used ({len(metadata['unused'])}): {', '.join(metadata['unused'])}")


if __name__ == "__main__":
  main()
