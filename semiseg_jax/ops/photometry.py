"""Changes of color and sharpness on the device: jitter, gray, blur, each by chance.

Pictures are uint8 [B,H,W,3], RGB, and stay so: each operation rounds as the 8-bit operations of
Pillow do that the published pipelines are made of (ImageEnhance, HSV conversion).  One key per
example makes every draw; pictures of a batch do not depend on each other.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from semiseg_jax.ops.float_jitter import float_jitter
from semiseg_jax.ops.keys import named_key
from semiseg_jax.options import key

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_LEVELS = 10  # ContrastiveSeg's brightness
_DISTORTION = (0.4, 0.4, 0.4)  # PaddleSeg: brightness, contrast, saturation
_DISTORTION_HUE = 18.0  # of 256
_DISTORTION_P = 0.5
EVERY_VIEW = ("none", "jitter", "brightness", "distortion")


@dataclasses.dataclass(frozen=True)
class Strong:
  """The config block `data.strong`: strong views of a picture, UniMatch's values."""

  order: tuple[str, ...] = key(
    ("jitter", "gray", "blur"), "the changes, in this order", one_of=("jitter", "gray", "blur")
  )
  jitter: tuple[float, float, float, float] = key(
    (0.5, 0.5, 0.5, 0.25),
    "strength on (brightness, contrast, saturation, hue), hue at most 0.5",
    at_least=0,
  )
  jitter_rule: str = key(
    "pillow",
    "arithmetic of jitter; 'tensorflow': brightness is added, saturation is that of HSV",
    one_of=("pillow", "tensorflow"),
  )
  jitter_p: float = key(0.8, "probability of jitter", at_least=0, at_most=1)
  gray_p: float = key(0.2, "probability of gray", at_least=0, at_most=1)
  blur_p: float = key(0.5, "probability of blur", at_least=0, at_most=1)
  blur_sigma: tuple[float, float] = key(
    (0.1, 2.0),
    "(lowest, highest) deviation in pixels, uniform",
    above=0,
    rises=True,
    when={"blur_taps": (0,)},
  )
  blur_taps: int = key(
    0,
    "3 or 5 = OpenCV's weights for so many, instead of data.strong.blur_sigma",
    one_of=(0, 3, 5),
  )


def strong_view(images: jax.Array, keys: jax.Array, config: Any) -> jax.Array:
  """Returns strongly changed pictures: jitter, gray and blur in the order `data.strong.order`.

  Args:
    images: uint8 [B,H,W,3].
    keys: typed [B]; other keys for each view of a picture.
    config: of the run. A number of `data.strong.blur_taps` is OpenCV's blur, 0 a Gaussian.
  """
  strong = config.data.strong
  change = {
    "jitter": lambda x, k: _jitter(x, k, strong),
    "gray": lambda x, k: grayscale(x),
    "blur": lambda x, k: _blur(x, k, strong),
  }
  chance = {"jitter": strong.jitter_p, "gray": strong.gray_p, "blur": strong.blur_p}
  for name in strong.order:
    images = _by_chance(images, keys, name, chance[name], change[name])
  return images


def every_view(images: jax.Array, keys: jax.Array, kind: str, config: Any) -> jax.Array:
  """Returns pictures changed as those of a whole stream are, the labeled ones too.

  Args:
    images: uint8 [B,H,W,3].
    keys: typed [B].
    kind: 'none'; 'jitter', always, by `data.strong.jitter` (CAC on Cityscapes);
      'brightness', one integer in [-10, 10] for all channels (ContrastiveSeg); 'distortion'
      (PaddleSeg): brightness, contrast and saturation factors in [0.6, 1.4], a hue shift in
      [-18, 18] of 256, each with probability 1/2, in random order.
    config: of the run.
  """
  if kind == "jitter":
    return color_jitter(images, *draw_jitter(_fold(keys, kind), tuple(config.data.strong.jitter)))
  if kind == "brightness":
    shift = jax.vmap(lambda k: jax.random.randint(k, (), -_LEVELS, _LEVELS + 1))(_fold(keys, kind))
    shifted = images.astype(jnp.int32) + shift[:, None, None, None]
    return shifted.clip(0, 255).astype(jnp.uint8)
  if kind == "distortion":
    return color_jitter(images, *draw_distortion(_fold(keys, kind)))
  if kind != "none":
    raise ValueError(f"unknown photometry {kind!r}: {', '.join(EVERY_VIEW)}.")
  return images


def draw_jitter(
  keys: jax.Array, strength: tuple[float, float, float, float]
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Draws what `color_jitter` takes, as torchvision's ColorJitter does: (factors, order, on).

  Brightness, contrast and saturation factors are uniform in [max(0, 1 - s), 1 + s], the hue shift
  in [-s, s] of the circle; the order is a uniform permutation.
  """
  b, c, s, h = strength
  low = jnp.asarray([max(0.0, 1 - b), max(0.0, 1 - c), max(0.0, 1 - s), -h * 255])
  high = jnp.asarray([1 + b, 1 + c, 1 + s, h * 255])
  factors, order = _draw_factors(keys, low, high)
  factors = factors.at[:, HUE].set(jnp.trunc(factors[:, HUE]))
  return factors, order, jnp.ones(order.shape, bool)


def draw_float_jitter(
  keys: jax.Array, strength: tuple[float, float, float, float]
) -> tuple[jax.Array, jax.Array]:
  """Draws what `float_jitter` takes, as PseudoSeg does: (factors, order).

  What is added to the brightness is uniform in [-s, s], to the hue likewise; contrast and
  saturation factors are uniform in [1 - s, 1 + s]; the order is a uniform permutation.
  """
  center, spread = jnp.asarray([0.0, 1.0, 1.0, 0.0]), jnp.asarray(strength)
  return _draw_factors(keys, center - spread, center + spread)


def draw_distortion(keys: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Draws what `color_jitter` takes, as PaddleSeg's RandomDistort does: (factors, order, on)."""
  spread = jnp.asarray([*_DISTORTION, _DISTORTION_HUE])
  center = jnp.asarray([1.0, 1.0, 1.0, 0.0])
  factors, order = _draw_factors(keys, center - spread, center + spread)
  factors = factors.at[:, HUE].set(jnp.floor(factors[:, HUE]))
  on = jax.vmap(lambda k: jax.random.uniform(k, (4,)))(_fold(keys, "on")) < _DISTORTION_P
  return factors, order, on


def draw_sigma(keys: jax.Array, limits: tuple[float, float]) -> jax.Array:
  """Returns a uniform standard deviation [B] within `limits`, pixels."""
  low, high = limits
  return jax.vmap(lambda k: jax.random.uniform(k, (), minval=low, maxval=high))(
    _fold(keys, "sigma")
  )


def color_jitter(
  images: jax.Array, factors: jax.Array, order: jax.Array, on: jax.Array
) -> jax.Array:
  """Returns pictures after four adjustments in the order given, each rounded to 8 bits.

  Args:
    images: uint8 [B,H,W,3].
    factors: [B,4], of brightness, contrast, saturation; the hue shift as a whole number of 256ths.
    order: int [B,4], which adjustment (0..3) comes first, second, ...
    on: bool [B,4], adjustments that are made.
  """

  def one(place: jax.Array, x: jax.Array) -> jax.Array:
    which = order[:, place, None, None, None]
    out = x
    for kind, adjust in enumerate((_brightness, _contrast, _saturation, _hue)):
      factor = factors[:, kind, None, None, None]
      chosen = (which == kind) & on[:, kind, None, None, None]
      out = jnp.where(chosen, adjust(x, factor), out)
    return out

  factors = factors.astype(jnp.float32)  # drawn in float64 where that is on
  # A loop, so that the four adjustments are compiled once and not four times.
  x = jax.lax.fori_loop(0, 4, one, images.astype(jnp.float32))
  return x.astype(jnp.uint8)


def grayscale(images: jax.Array) -> jax.Array:
  """Returns three equal channels of Pillow's luma (ITU-R 601-2)."""
  luma = _luma(images.astype(jnp.float32)).astype(jnp.uint8)
  return jnp.broadcast_to(luma, images.shape)


def blur(images: jax.Array, weights: jax.Array, *, border: str) -> jax.Array:
  """Returns pictures blurred by the same weights on both axes, rounded once.

  Args:
    images: uint8 [B,H,W,C], larger than half the taps.
    weights: [B,taps], an odd number of them.
    border: 'reflect' as OpenCV (without repeating the last pixel) or 'edge' as Pillow, whose own
      blur is three box blurs and differs from a Gaussian by a few levels.
  """
  taps = weights.shape[1]
  x = images.astype(jnp.float32)
  for axis in (1, 2):
    sides = [(taps // 2, taps // 2) if a == axis else (0, 0) for a in range(4)]
    padded = jnp.pad(x, sides, mode=border)
    x = sum(
      weights[:, t, None, None, None]
      * jax.lax.slice_in_dim(padded, t, t + images.shape[axis], axis=axis)
      for t in range(taps)
    )
  return jnp.round(x).astype(jnp.uint8)


def gaussian_weights(sigma: jax.Array, radius: int) -> jax.Array:
  """Returns [B, 2 radius + 1] that add up to 1, for sigma [B] in pixels."""
  taps = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
  weights = jnp.exp(-0.5 * (taps[None] / sigma[:, None]) ** 2)
  return weights / weights.sum(1, keepdims=True)


def binomial_weights(taps: int) -> jax.Array:
  """Returns [1, taps]: what OpenCV takes for 3 or 5 taps when it is given no sigma."""
  weights = [math.comb(taps - 1, k) / 2 ** (taps - 1) for k in range(taps)]
  return jnp.asarray(weights, jnp.float32)[None]


def _fold(keys: jax.Array, name: str) -> jax.Array:
  return jax.vmap(lambda k: named_key(k, name))(keys)


def _by_chance(images: jax.Array, keys: jax.Array, name: str, p: float, change: Any) -> jax.Array:
  gates = jax.vmap(jax.random.uniform)(_fold(keys, f"{name}_p")) < p
  return jnp.where(gates[:, None, None, None], change(images, _fold(keys, name)), images)


def _jitter(images: jax.Array, keys: jax.Array, strong: Any) -> jax.Array:
  strength = tuple(strong.jitter)
  if strong.jitter_rule == "pillow":
    return color_jitter(images, *draw_jitter(keys, strength))
  return float_jitter(images, *draw_float_jitter(keys, strength))


def _blur(images: jax.Array, keys: jax.Array, strong: Any) -> jax.Array:
  if strong.blur_taps:
    weights = jnp.broadcast_to(binomial_weights(strong.blur_taps), (len(images), strong.blur_taps))
    return blur(images, weights, border="reflect")
  limits = tuple(strong.blur_sigma)
  weights = gaussian_weights(draw_sigma(keys, limits), math.ceil(3 * limits[1]))
  return blur(images, weights, border="edge")


def _draw_factors(keys: jax.Array, low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
  uniform = jax.vmap(lambda k: jax.random.uniform(k, (4,)))(_fold(keys, "factors"))
  order = jax.vmap(lambda k: jax.random.permutation(k, 4))(_fold(keys, "order"))
  return low[None] + (high - low)[None] * uniform, order


def _blend(base: jax.Array, x: jax.Array, factor: jax.Array) -> jax.Array:
  """base + factor (x - base), cut to 0..255 and down to a whole number, as Pillow's blend."""
  return jnp.floor((base + factor * (x - base)).clip(0, 255))


def _luma(x: jax.Array) -> jax.Array:
  """[B,H,W,1], in whole numbers; Pillow's weights are 16-bit fractions."""
  red, green, blue = (x[..., c, None].astype(jnp.int32) for c in range(3))
  return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(jnp.float32)


def _brightness(x: jax.Array, factor: jax.Array) -> jax.Array:
  return _blend(jnp.zeros_like(x), x, factor)


def _contrast(x: jax.Array, factor: jax.Array) -> jax.Array:
  mean = jnp.floor(_luma(x).mean((1, 2, 3), keepdims=True) + 0.5)
  return _blend(mean, x, factor)


def _saturation(x: jax.Array, factor: jax.Array) -> jax.Array:
  return _blend(_luma(x), x, factor)


def _hue(x: jax.Array, shift: jax.Array) -> jax.Array:
  """By way of 8-bit hue, saturation and value, which alone moves colors by a few levels."""
  hue, saturation, value = _to_hsv(x)
  return _to_rgb(jnp.mod(hue + shift, 256), saturation, value)


def _to_hsv(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  red, green, blue = (x[..., c, None] for c in range(3))
  value = x.max(-1, keepdims=True)
  spread = value - x.min(-1, keepdims=True)
  safe = jnp.maximum(spread, 1)
  rc, gc, bc = ((value - c) / safe for c in (red, green, blue))
  sixth = jnp.where(red == value, bc - gc, jnp.where(green == value, 2 + rc - bc, 4 + gc - rc))
  hue = jnp.floor(jnp.mod(sixth / 6 + 1, 1) * 255)
  saturation = jnp.floor(spread / jnp.maximum(value, 1) * 255)
  gray = spread == 0
  return jnp.where(gray, 0, hue), jnp.where(gray, 0, saturation), value


def _to_rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> jax.Array:
  sixth = hue * 6 / 255
  part = jnp.floor(sixth)
  f, s = sixth - part, saturation / 255
  p, q, t = (_half_up(value * (1 - s * g)) for g in (jnp.ones_like(f), f, 1 - f))
  which = jnp.mod(part, 6)
  channels = ((value, q, p, p, t, value), (t, value, value, q, p, p), (p, p, t, value, value, q))
  return jnp.concatenate(
    [jnp.select([which == k for k in range(6)], list(choices), value) for choices in channels],
    axis=-1,
  )


def _half_up(x: jax.Array) -> jax.Array:
  return jnp.floor(x + 0.5)
