"""Runs an export on pictures: `check` starts it as a process of its own.

python -m semiseg_jax.exporting.clean_run FILE given.npz made.npz
"""

import json
import pathlib
import sys
from collections.abc import Callable, Iterator

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh

from semiseg_jax.errors import ending
from semiseg_jax.evaluation import inference
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.exporting import container, hub, networks
from semiseg_jax.exporting.functions import KINDS
from semiseg_jax.members import Member
from semiseg_jax.models.torch import torch_names
from semiseg_jax.models.torch.files import read_state_dict

# images uint8 [B,H,W,C] -> labels [B,H,W], probabilities [B,H,W,K]
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def of_semiseg(path: pathlib.Path, about: dict) -> Run:
  """A .semiseg file by its program 'segment'."""
  frozen = container.read(path)

  def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, _, probabilities = frozen.programs["segment"].call(frozen.weights, images)
    return labels, probabilities

  return run


def of_hub(path: pathlib.Path, about: dict) -> Run:
  """A folder for a hub, all networks of it or its only one."""
  trained = hub.load_trained(path, "last", _mesh())
  return _of_trained(trained, "mean" if trained.n > 1 else "0")


def of_state_dict(path: pathlib.Path, about: dict) -> Run:
  """A PyTorch state dict, whose tensors become our network again; of several the mean."""
  state, mesh = read_state_dict(path), _mesh()
  weights = {}
  for member in networks.members(about["networks"], mesh):
    for i in range(member.first, member.first + member.stack.n):
      weights |= renamed(member, state, i, about["prefixes"][i])
  trained = networks.rebuild(about["networks"], weights, mesh)
  return _of_trained(trained, "mean" if trained.n > 1 else "0")


def renamed(member: Member, state: dict, i: int, prefix: str) -> dict[str, np.ndarray]:
  """Returns the weights of network i (see `functions`) from a PyTorch state dict."""
  names = torch_names.network_names(member.stack.network)
  found = {}
  for kind, tree in zip(KINDS, member.stack.network.shapes()):
    for path in traverse_util.flatten_dict(tree):
      array = torch_names.from_torch(state[prefix + names[path]])
      found[f"{i}/{kind}/{'/'.join(path)}"] = np.ascontiguousarray(array)
  return found


def _mesh() -> Mesh:
  return Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), ("replica", "data"))


def _of_trained(trained: Trained, network: str) -> Run:
  forward = inference.make_forward(trained, network, probabilities=True)

  def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count, height, width = images.shape[:3]
    p = forward(images, np.tile(np.int32([[0, 0, height, width]]), (count, 1)))
    return np.asarray(p).argmax(-1).astype(np.uint8), p

  return run


def of_onnx(path: pathlib.Path, about: dict) -> Run:
  """An ONNX file by onnxruntime."""
  from semiseg_jax.exporting import onnx_file

  return onnx_file.session(path)


_KINDS = {"semiseg": of_semiseg, "onnx": of_onnx, "hub": of_hub, "state dict": of_state_dict}


def main(argv: list[str]) -> None:
  """The command line: the export, pictures and what is said of it, where answers go."""
  path, given, made = map(pathlib.Path, argv)
  with np.load(given) as arrays:
    about = json.loads(str(arrays["about"]))
    seen = [arrays[name] for name in arrays.files if name != "about"]
  run = _KINDS[about["kind"]](path, about)
  np.savez(made, **dict(_answers(run, seen)))


def _answers(run: Run, seen: list[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
  for i, images in enumerate(seen):
    labels, probabilities = run(images)
    yield f"labels_{i}", np.asarray(labels)
    yield f"p_{i}", np.asarray(probabilities)


if __name__ == "__main__":
  with ending("clean run"):
    main(sys.argv[1:])
