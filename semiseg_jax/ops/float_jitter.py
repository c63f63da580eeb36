"""Color jitter in real numbers from 0 to 1, as TensorFlow's image operations (PseudoSeg).

Unlike Pillow's (photometry.py): brightness is added, contrast is about the mean of each channel,
saturation is that of HSV, and only the last result is rounded.
"""

import jax
import jax.numpy as jnp


def float_jitter(images: jax.Array, factors: jax.Array, order: jax.Array) -> jax.Array:
  """Returns uint8 [B,H,W,3] after four adjustments, each cut to 0..1.

  Args:
    images: uint8 [B,H,W,3].
    factors: [B,4]: the brightness that is added, the factors of contrast and saturation, the hue
      that is added as a share of the circle.
    order: int [B,4], which adjustment (0..3) comes first, second, ...
  """
  factors = factors.astype(jnp.float32)  # drawn in float64 where that is on

  def one(place: jax.Array, x: jax.Array) -> jax.Array:
    which, out = order[:, place, None, None, None], x
    for kind, adjust in enumerate((_brightness, _contrast, _saturation, _hue)):
      adjusted = adjust(x, factors[:, kind, None, None, None])
      out = jnp.where(which == kind, adjusted.clip(0, 1), out)
    return out

  # A loop, so that the four adjustments are compiled once and not four times.
  x = jax.lax.fori_loop(0, 4, one, images.astype(jnp.float32) / 255)
  return jnp.round(x * 255).astype(jnp.uint8)


def _brightness(x: jax.Array, delta: jax.Array) -> jax.Array:
  return x + delta


def _contrast(x: jax.Array, factor: jax.Array) -> jax.Array:
  mean = x.mean((1, 2), keepdims=True)
  return mean + factor * (x - mean)


def _saturation(x: jax.Array, factor: jax.Array) -> jax.Array:
  """At one hue and value the channels move on lines to the value."""
  value = x.max(-1, keepdims=True)
  spread = value - x.min(-1, keepdims=True)
  saturation = spread / jnp.maximum(value, 1e-12)
  wanted = (saturation * factor).clip(0, 1)
  return value - (value - x) * wanted / jnp.maximum(saturation, 1e-12)


def _hue(x: jax.Array, shift: jax.Array) -> jax.Array:
  red, green, blue = (x[..., c, None] for c in range(3))
  value = x.max(-1, keepdims=True)
  spread = value - x.min(-1, keepdims=True)
  safe = jnp.where(spread > 0, spread, 1)
  sixth = jnp.where(
    red == value,
    (green - blue) / safe,
    jnp.where(green == value, 2 + (blue - red) / safe, 4 + (red - green) / safe),
  )
  at = jnp.asarray([5.0, 3.0, 1.0])[None, None, None] + sixth + 6 * shift  # red, green, blue
  at = jnp.mod(at, 6)
  return value - spread * jnp.minimum(at, 4 - at).clip(0, 1)
