"""DINOv3's tensors put together as its authors store them, whoever published the file.

The authors: `attn.qkv` with a bias [3D] whose middle, the keys', a buffer `bias_mask` of 1, 0, 1
takes out.  timm: `attn.qkv.weight`, `attn.q_bias`, `attn.v_bias`, or no biases where all are 0.
Hugging Face: `attention.q_proj`, `k_proj` (without a bias), `v_proj`.
"""

import re
from collections.abc import Collection, Mapping

import numpy as np

from semiseg_jax.errors import WeightsError
from semiseg_jax.models.backbones import rope

ABSENT_BIAS = "qkv.no_bias"  # of a file of timm's that leaves the biases out
_MARK = "storage_tokens"  # what only DINOv3 has
State = dict[str, np.ndarray]


def gathered(state: Mapping[str, np.ndarray], wanted: Collection[str]) -> Mapping[str, np.ndarray]:
  """Returns the state dict with one `qkv` for each attention; those of other networks as they are.

  The names are still the publisher's: 'layer.0.attention.qkv.weight'.

  Args:
    state: state-dict name -> array.
    wanted: names of the network that is looked for.

  Raises:
    WeightsError: one of query, key and value is absent or of another shape, or keys have a bias,
      or the periods of the positions are others.
  """
  if not any(name.endswith(_MARK) for name in wanted):
    return state
  state = dict(state)
  for name in list(state):
    if name.endswith("rope_embed.periods"):
      _check_periods(name, state[name])
    elif name.endswith("mask_token"):
      state[name] = state[name].reshape(1, -1)
    elif name.endswith("attn.qkv.bias"):
      _take_mask_out(state, name)
    elif match := re.fullmatch(r"(.*attention\.)[qkv]_proj\.weight", name):
      _join_matrices(state, match[1])
  _join_biases(state, any(name.endswith("attn.qkv.bias") for name in wanted))
  return state


def _check_periods(name: str, periods: np.ndarray) -> None:
  # Published files hold them rounded to bfloat16.
  expected = rope.periods(4 * periods.size)
  if not np.allclose(periods.reshape(-1), expected, rtol=2**-8):
    raise WeightsError(
      f"{name} are not the powers of {rope.BASE:g} from 1 to {expected.max():.4g}: the source is "
      "another variant of the network, which would give other numbers."
    )


def _take_mask_out(state: State, name: str) -> None:
  """Sets the keys' part of a bias to 0, which is what the mask of the authors makes of it."""
  bias, mask = state[name].copy(), state.pop(f"{name}_mask", None)
  if bias.ndim != 1 or bias.size % 3:
    return  # refused for its shape
  expected = np.repeat([1, 0, 1], bias.size // 3)
  if mask is not None and not np.array_equal(mask, expected):
    raise WeightsError(
      f"{name}_mask is not 1 for queries, 0 for keys, 1 for values: these are no weights of a "
      "DINOv3, or of one that was never initialized."
    )
  if mask is None and bias[expected == 0].any():
    raise WeightsError(f"{name} has a bias of keys and no mask of it, which no DINOv3 has.")
  bias[expected == 0] = 0
  state[name] = bias


def _join_matrices(state: State, place: str) -> None:
  if f"{place}qkv.weight" in state:
    return
  parts = [f"{place}{letter}_proj.weight" for letter in "qkv"]
  missing = [part for part in parts if part not in state]
  if missing:
    raise WeightsError(
      f"The source lacks {', '.join(missing)}, and has the others of {place[:-1]}: was it cut?"
    )
  shapes = {state[part].shape for part in parts}
  if len(shapes) > 1:
    raise WeightsError(f"{', '.join(parts)} have different shapes: {sorted(shapes)}.")
  state[f"{place}qkv.weight"] = np.concatenate([state.pop(part) for part in parts])


def _join_biases(state: State, wanted: bool) -> None:
  """Biases of query and value, with zeros for the keys between."""
  places = [name.removesuffix("qkv.weight") for name in state if name.endswith(".qkv.weight")]
  forms = ("{}q_bias", "{}v_bias"), ("{}q_proj.bias", "{}v_proj.bias")
  found = False
  for place in places:
    for form in forms:
      parts = [part.format(place) for part in form]
      missing = [part for part in parts if part not in state]
      if len(missing) == 1:
        raise WeightsError(
          f"The source lacks {missing[0]}, and has the other bias of {place[:-1]}."
        )
      if not missing:
        q, v = (state.pop(part) for part in parts)
        state[f"{place}qkv.bias"] = np.concatenate([q, np.zeros_like(q), v])
    found |= any(name in state for name in (f"{place}qkv.bias", f"{place}q_bias"))
  of_timm = any(name.endswith("reg_token") for name in state)
  if wanted and of_timm and not found:
    for place in places:
      width = len(state[f"{place}qkv.weight"])
      state[f"{place}{ABSENT_BIAS}"] = np.zeros(width, np.float32)
