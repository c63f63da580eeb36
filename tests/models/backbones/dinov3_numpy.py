"""DINOv3 for one picture in float64 numpy, loop by loop, from the definition of its authors.

It takes their state dict: names and layouts are PyTorch's.
"""

import math

import numpy as np

PATCH = 16


def _norm(x, state, name):
  centered = x - x.mean(-1, keepdims=True)
  scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
  return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def _linear(x, state, name):
  return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)


def _rotated(vector, y, x, periods):
  """A head's query or key at the place (y, x): pairs (i, i + d/2) are turned."""
  half, out = len(vector) // 2, np.empty_like(vector)
  for i in range(half):
    place = y if i < half // 2 else x
    angle = 2 * math.pi * place / periods[i % (half // 2)]
    a, b = vector[i], vector[i + half]
    out[i] = a * math.cos(angle) - b * math.sin(angle)
    out[i + half] = b * math.cos(angle) + a * math.sin(angle)
  return out


def _attention(x, state, name, heads, places):
  """places: (y, x) of each token, None for those that have none."""
  weight, width = state[f"{name}.qkv.weight"], x.shape[1]
  bias = state.get(f"{name}.qkv.bias", np.zeros(3 * width)) * state.get(f"{name}.qkv.bias_mask", 1)
  q, k, v = (x @ w.T + b for w, b in zip(np.split(weight, 3), np.split(bias, 3)))
  size, out = width // heads, np.empty_like(x)
  periods = [100 ** (2 * i / (size / 2)) for i in range(size // 4)]
  for h in range(heads):
    part = slice(h * size, (h + 1) * size)
    qs, ks = (
      np.stack(
        [t[part] if p is None else _rotated(t[part], *p, periods) for t, p in zip(z, places)]
      )
      for z in (q, k)
    )
    weights = np.exp(qs @ ks.T / math.sqrt(size))
    out[:, part] = weights / weights.sum(-1, keepdims=True) @ v[:, part]
  return _linear(out, state, f"{name}.proj")


def _mlp(x, state, name):
  if f"{name}.w1.weight" in state:
    gate = _linear(x, state, f"{name}.w1")
    return _linear(
      gate / (1 + np.exp(-gate)) * _linear(x, state, f"{name}.w2"), state, f"{name}.w3"
    )
  hidden = _linear(x, state, f"{name}.fc1")
  hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
  return _linear(hidden, state, f"{name}.fc2")


def levels(state, image, heads, moved=lambda place: place):
  """The normalized patches [gh*gw,D] after every block, of a picture [H,W,3].

  moved: what becomes of the place (y, x) of a patch before it is turned.
  """
  state = {name: np.asarray(array, np.float64) for name, array in state.items()}
  gh, gw = (side // PATCH for side in image.shape[:2])
  kernel = state["patch_embed.proj.weight"]
  tokens, places = [state["cls_token"][0, 0], *state["storage_tokens"][0]], [None] * 5
  for i in range(gh):
    for j in range(gw):
      patch = image[i * PATCH : (i + 1) * PATCH, j * PATCH : (j + 1) * PATCH].astype(np.float64)
      tokens.append(np.einsum("yxc,ocyx->o", patch, kernel) + state["patch_embed.proj.bias"])
      places.append(moved((2 * (i + 0.5) / gh - 1, 2 * (j + 0.5) / gw - 1)))
  x, outputs = np.stack(tokens), []
  depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
  for b in range(depth):
    name = f"blocks.{b}"
    mixed = _attention(_norm(x, state, f"{name}.norm1"), state, f"{name}.attn", heads, places)
    x = x + state[f"{name}.ls1.gamma"] * mixed
    hidden = _mlp(_norm(x, state, f"{name}.norm2"), state, f"{name}.mlp")
    x = x + state[f"{name}.ls2.gamma"] * hidden
    outputs.append(_norm(x, state, "norm")[5:])
  return outputs
