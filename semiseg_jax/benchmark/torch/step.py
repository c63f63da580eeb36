"""One step of CPS in PyTorch, written as its users write it: a call per stream, one backward pass.

Batches are uint8 pictures and labels, as ours; they are normalized in the step.
"""

import contextlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from semiseg_jax.benchmark.torch.networks import Network
from semiseg_jax.benchmark.torch.recipe import Recipe
from semiseg_jax.labels import IGNORE

Batch = Mapping[str, Mapping[str, np.ndarray]]
Placed = Mapping[str, Mapping[str, torch.Tensor]]


class Step:
  """N networks, their optimizer, and a call that trains them on one batch.

  Args of the constructor:
    recipe: what to do.
    mode: 'eager', 'channels_last' or 'compile', that with channels last too.
    device: 'cpu' or 'cuda'.
  """

  def __init__(self, recipe: Recipe, mode: str, device: str):
    torch.backends.cudnn.benchmark = True
    self.recipe, self.device = recipe, device
    self.layout = torch.contiguous_format if mode == "eager" else torch.channels_last
    nets = [Network(recipe).to(device, memory_format=self.layout) for _ in range(recipe.networks)]
    self.nets = nn.ModuleList(nets)
    self.calls: list[Callable] = [torch.compile(net) if mode == "compile" else net for net in nets]
    self.optimizer = torch.optim.SGD(_groups(self.nets, recipe), lr=1.0, fused=True)

  def batch(self, batch: Batch) -> dict[str, dict[str, torch.Tensor]]:
    """Returns a batch [B,H,W,3] and [B,H,W] on the device."""
    fields = {
      name: {key: torch.from_numpy(stream[key]).to(self.device) for key in ("image", "label")}
      for name, stream in batch.items()
    }
    for stream in fields.values():
      image = stream["image"].permute(0, 3, 1, 2)
      stream["image"] = image.contiguous(memory_format=self.layout)
    return fields

  def __call__(self, batch: Placed, masks: torch.Tensor | None = None) -> torch.Tensor:
    """Trains on a placed batch and returns the loss.

    Args:
      batch: see `batch`.
      masks: of CutMix, bool [B,H,W], true takes the partner's pixel; None: they are drawn.
    """
    bf16 = self.recipe.dtype == "bfloat16"
    with torch.autocast(self.device, torch.bfloat16) if bf16 else contextlib.nullcontext():
      P_l, P, Y = (self._mixed if self.recipe.cutmix else self._plain)(batch, masks)
    y = batch["labeled"]["label"].long()
    supervised = sum(_supervised(self.recipe, logits, y) for logits in P_l)
    others = [(k, j) for k in range(len(P)) for j in range(len(P)) if j != k]
    cps = sum(functional.cross_entropy(P[k], Y[j], ignore_index=IGNORE) for k, j in others)
    loss = supervised + self.recipe.weight * cps / (len(P) - 1)
    self.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    self.optimizer.step()
    return loss.detach()

  def _seen(self, batch: Placed, stream: str) -> torch.Tensor:
    x = batch[stream]["image"].float() / 255
    mean, std = (x.new_tensor(v)[:, None, None] for v in (self.recipe.mean, self.recipe.std))
    return ((x - mean) / std).contiguous(memory_format=self.layout)

  def _plain(self, batch: Placed, _: None) -> tuple:
    x_l, x_u = self._seen(batch, "labeled"), self._seen(batch, "unlabeled")
    P_l, P_u = zip(*((call(x_l), call(x_u)) for call in self.calls))
    P = [torch.cat(pair) for pair in zip(P_l, P_u)]
    return P_l, P, [logits.detach().argmax(1) for logits in P]

  def _mixed(self, batch: Placed, M: torch.Tensor | None) -> tuple:
    A, B = self._seen(batch, "unlabeled"), self._seen(batch, "unlabeled_mix")
    M = box_masks(self.recipe, len(A), self.device) if M is None else M
    with torch.no_grad():
      teachers = [(call(A).argmax(1), call(B).argmax(1)) for call in self.calls]
    Y = [torch.where(M, Y_B, Y_A) for Y_A, Y_B in teachers]
    x, x_l = torch.where(M[:, None], B, A), self._seen(batch, "labeled")
    P, P_l = zip(*((call(x), call(x_l)) for call in self.calls))
    return P_l, P, Y


def _groups(nets: nn.ModuleList, recipe: Recipe) -> list[dict]:
  o, groups = recipe.optimizer, {}
  for name, parameter in nets.named_parameters():
    head, kernel = ".encoder." not in name, parameter.ndim == 4
    groups.setdefault((head, kernel or o["decayed"] == "all"), []).append(parameter)
  return [
    {
      "params": parameters,
      "lr": o["rate"] * (o["head"] if head else 1.0),
      "momentum": o["momentum"],
      "nesterov": o["nesterov"],
      "weight_decay": o["decay"] if decays else 0.0,
    }
    for (head, decays), parameters in groups.items()
  ]


def _supervised(recipe: Recipe, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
  """Cross entropy; with 'ohem' of the pixels whose class is least probable."""
  if recipe.supervised == "ce":
    return functional.cross_entropy(logits, y, ignore_index=IGNORE)
  threshold, fraction = recipe.ohem
  pixel, valid = (
    functional.cross_entropy(logits, y, ignore_index=IGNORE, reduction="none"),
    y != IGNORE,
  )
  probability = torch.where(valid, torch.exp(-pixel.detach()), 1)
  kept = max(1, round(fraction * y.numel()))
  q = probability.flatten().kthvalue(min(kept, y.numel())).values
  tau = torch.where(valid.sum() < kept, torch.inf, q.clamp(min=threshold))
  keep = valid & (probability <= tau)
  return torch.where(keep, pixel, 0).sum() / keep.sum().clamp(min=1)


def box_masks(recipe: Recipe, count: int, device: str) -> torch.Tensor:
  """Draws CutMix's masks, bool [B,H,W]; as ours, from PyTorch's own numbers."""
  boxes, (low, high) = recipe.cutmix["boxes"], recipe.cutmix["area"]
  frame = torch.tensor(recipe.crop, device=device)
  u = torch.rand(count, boxes, 4, device=device)
  area = low + (high - low) * u[..., 0]
  tall = torch.exp(u[..., 1] * torch.log(area))
  size = torch.round(torch.stack([tall, area / tall], -1) * (1 / boxes) ** 0.5 * frame)
  start = torch.round((frame - size) * u[..., 2:])
  y, x = (torch.arange(side, device=device) for side in recipe.crop)
  within = [
    (at >= start[..., i, None]) & (at < (start + size)[..., i, None]) for i, at in enumerate((y, x))
  ]
  inside = within[0][..., :, None] & within[1][..., None, :]
  return inside.sum(1) % 2 == 1


def load(net: Network, leaves: Mapping[str, np.ndarray]) -> None:
  """Puts our parameters into a network: names and layouts of PyTorch, every leaf of it."""
  state = {name: torch.from_numpy(np.array(leaf)) for name, leaf in leaves.items()}
  counters = {k: v for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")}
  net.load_state_dict({**counters, **state})
