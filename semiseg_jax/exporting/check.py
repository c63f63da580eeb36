"""An export runs once more, in a process that knows nothing but the file, and is compared."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from semiseg_jax.errors import WeightsError
from semiseg_jax.evaluation import inference
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.wording import counted

_NEAR = {"float32": 1e-4, "bfloat16": 2e-2}  # probabilities, and of two classes that tie
_SIZES = ((2, 96, 128), (1, 75, 101))  # B, H, W, where any will do


def pictures(
  channels: int, size: tuple[int, int] | None, batch: int = 2, seed: int = 0
) -> list[np.ndarray]:
  """Returns batches uint8 [B,H,W,C] of smooth noise; of one size where the export takes one."""
  rng = np.random.default_rng(seed)
  found = []
  for count, height, width in ((batch, *size),) if size else _SIZES:
    coarse = rng.integers(0, 256, (count, -(-height // 8), -(-width // 8), channels), np.uint8)
    found.append(coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width])
  return found


def check(
  path: str | os.PathLike[str],
  trained: Trained,
  network: str,
  *,
  kind: str,
  size: tuple[int, int] | None = None,
  batch: int = 2,
  **about: Any,
) -> str:
  """Returns what was compared, one line.

  Args:
    path: of the export.
    trained: the networks.
    network: '0', '1', ... or 'mean'.
    kind: of the export, see `clean_run`.
    size: (height, width) that it takes; None for any.
    batch: pictures in a call, where the size is one.
    **about: what the process is told besides, plain JSON values.

  Raises:
    WeightsError: it cannot be run, or answers otherwise than the network.
  """
  seen = pictures(trained.dataset["channels"], size, batch)
  expected = [own(trained, network, images) for images in seen]
  answers = clean_run(path, seen, {"kind": kind, **about})
  near = max(_NEAR[member.stack.network.dtype.__name__] for member in trained.members)
  worst, ties, pixels = 0.0, 0, 0
  for p, (labels, q) in zip(expected, answers, strict=True):
    worst = float(np.maximum(worst, np.abs(p - q).max()))  # which keeps a NaN
    two = np.sort(p, -1)[..., -2:]
    differs = labels != p.argmax(-1)
    ties, pixels = ties + differs.sum(), pixels + differs.size
    if not worst <= near or (differs & (two[..., 1] - two[..., 0] > near)).any():
      raise WeightsError(
        f"{pathlib.PurePath(path).name}: run again, its probabilities differ by {worst:.2g} from "
        f"those of the network ({near:g} are allowed), and {differs.sum()} of {differs.size} "
        "labels: it is not kept. "
        "Please report this; --check=no writes it all the same."
      )
  return (
    f"  run again from a clean process on {counted(len(seen), 'size')} of pictures: probabilities "
    "differ by "
    f"{worst:.1e} at most, labels by {ties} of {pixels} (ties)"
  )


def own(trained: Trained, network: str, images: np.ndarray) -> np.ndarray:
  """Returns the network's own probabilities [B,H,W,K] of images uint8 [B,H,W,C]."""
  forward = inference.make_forward(trained, network, probabilities=True)
  count, height, width = images.shape[:3]
  return np.asarray(forward(images, np.tile(np.int32([[0, 0, height, width]]), (count, 1))))


def clean_run(
  path: str | os.PathLike[str], seen: list[np.ndarray], about: dict[str, Any]
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns labels [B,H,W] and probabilities [B,H,W,K] of each batch, by another process.

  Raises:
    WeightsError: it fails; with its last line.
  """
  with tempfile.TemporaryDirectory() as folder:
    given, made = (pathlib.Path(folder) / name for name in ("given.npz", "made.npz"))
    np.savez(given, *seen, about=json.dumps(about))
    command = [sys.executable, "-m", "semiseg_jax.exporting.clean_run", os.fspath(path)]
    root = str(pathlib.Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    # The devices of this process are its own: on a TPU no other can be had beside it.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}
    done = subprocess.run(
      [*command, given, made], env=environment, stdin=subprocess.DEVNULL,
      capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
      last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
      name = pathlib.PurePath(path).name  # its folder is hidden, and gone when this is read
      raise WeightsError(f"{name} cannot be run in a process of its own, so it is not kept: {last}")
    with np.load(made) as arrays:
      return [(arrays[f"labels_{i}"], arrays[f"p_{i}"]) for i in range(len(seen))]
