"""What stands in the toy city: people, trees, fences, poles and signs."""

import cv2
import numpy as np
from numpy.typing import ArrayLike

from data_prep.toy_city.canvas import FENCE, PERSON, POLE, SIGN, VEGETATION, Canvas
from data_prep.toy_city.street import Camera, noise_field
from data_prep.toy_city.weather import Conditions, Light, Shade

_STEEL = np.array([0.50, 0.51, 0.52])
LEAVES = {
  "spring": ((0.42, 0.58, 0.22), (0.86, 0.66, 0.74), (0.34, 0.50, 0.20), (0.90, 0.88, 0.84)),
  "summer": ((0.24, 0.44, 0.16), (0.34, 0.50, 0.18), (0.18, 0.36, 0.20), (0.42, 0.50, 0.26)),
  "autumn": ((0.78, 0.58, 0.16), (0.74, 0.36, 0.12), (0.56, 0.20, 0.12), (0.50, 0.50, 0.18)),
  "winter": ((0.38, 0.32, 0.27), (0.30, 0.26, 0.24), (0.16, 0.30, 0.20), (0.44, 0.38, 0.34)),
}


def draw_person(
  canvas: Canvas,
  camera: Camera,
  light: Light,
  lateral: float,
  depth: float,
  rng: np.random.Generator,
) -> None:
  """Someone who stands or walks; child or adult, with coat, bag or umbrella."""
  x, y = camera.project((lateral, 0.0, depth))[0]
  tall = rng.uniform(1.5, 1.95) if rng.random() < 0.85 else rng.uniform(1.0, 1.4)
  unit = camera.focal / depth * tall
  shade = light.on(lateral, depth)
  trousers, top = rng.random((2, 3)) ** 1.3 * 0.85 + 0.05
  skin = np.array([0.87, 0.68, 0.56]) * rng.uniform(0.35, 1.05)
  hair = np.array([0.42, 0.28, 0.16]) * rng.uniform(0.15, 1.7)
  stride, wide = rng.uniform(0.02, 0.16), rng.uniform(0.105, 0.15)
  facing = rng.choice([-1, 1])

  def patch(points: ArrayLike, color: np.ndarray) -> None:
    canvas.polygon(np.array(points) * (facing * unit, -unit) + (x, y), shade(color), PERSON)

  long_coat = rng.random() < (0.5 if light.conditions.season == "winter" else 0.2)
  for foot in (-stride, stride):
    patch(
      [(foot - 0.045, 0), (foot + 0.055, 0), (0.06, 0.5), (-0.06, 0.5)],
      trousers * (0.85 if foot < 0 else 1.0),
    )
  hem = 0.25 if long_coat else 0.46
  patch(
    [(-wide * 0.8, hem), (wide * 0.8, hem), (wide, 0.8), (0.05, 0.86), (-0.05, 0.86), (-wide, 0.8)],
    top,
  )
  swing = rng.uniform(-0.12, 0.16)
  patch([(-0.03, 0.8), (0.05, 0.8), (0.05 + swing, 0.48), (-0.01 + swing, 0.46)], top * 0.8)
  if rng.random() < 0.3:
    patch(
      [(-wide - 0.07, 0.56), (-wide + 0.05, 0.54), (-wide + 0.05, 0.8), (-wide - 0.06, 0.78)],
      rng.random(3) * 0.8,
    )
  head = np.array([x + facing * 0.01 * unit, y - 0.92 * unit])
  canvas.ellipse(head, (0.062 * unit, 0.08 * unit), shade(skin), PERSON)
  canvas.ellipse(
    head - [facing * 0.012 * unit, 0.03 * unit], (0.06 * unit, 0.055 * unit), shade(hair), PERSON
  )
  if light.conditions.weather == "rain" and rng.random() < 0.6:
    cover = rng.random(3) * 0.85 + 0.05
    arc = np.linspace(0, np.pi, 9)
    dome = np.stack([0.36 * np.cos(arc), 1.0 + 0.2 * np.sin(arc)], -1)
    patch(dome, cover)


class Foliage:
  """The trees of one scene: a few leaf textures and crown shapes, stretched over every tree."""

  SIZE = 40

  def __init__(self, conditions: Conditions, rng: np.random.Generator):
    choices = np.array(LEAVES[conditions.season])
    n = self.SIZE
    ramp = np.linspace(1.2, 0.7, n, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, n, dtype=np.float32)
    y = x[:, None]
    self.textures, self.masks = [], []
    for _ in range(2):
      color = choices[rng.integers(len(choices))] * rng.uniform(0.8, 1.15)
      leaves = ramp * (
        0.45 + 0.55 * rng.random((n, n), np.float32) + 0.55 * noise_field(rng, (n, n), (9, 9))
      )
      texture = leaves[..., None] * color.astype(np.float32)
      if conditions.snow:
        white = np.clip(noise_field(rng, (n, n), (12, 12)) * 2 * conditions.snow - 0.6, 0, 0.9)
        texture += (white * (1.2 - 0.2 * y - texture[..., 0]))[..., None] * np.float32(0.85)
      power = rng.uniform(1.2, 2.6)
      cone = rng.random() < 0.25
      radius = (
        np.abs(x / np.clip(0.5 + 0.5 * y, 0.05, 1))
        if cone
        else (np.abs(x) ** power + np.abs(y) ** power)
      )
      ragged = radius < 1.05 - 0.55 * noise_field(rng, (n, n), (8, 8))
      self.textures.append(texture)
      self.masks.append(ragged.astype(np.uint8))

  def draw_tree(
    self,
    canvas: Canvas,
    camera: Camera,
    light: Light,
    lateral: float,
    depth: float,
    rng: np.random.Generator,
  ) -> None:
    """Trunk and crown; both are vegetation."""
    x, y = camera.project((lateral, 0.0, depth))[0]
    scale = camera.focal / depth
    height, spread = rng.uniform(4.5, 10) * scale, rng.uniform(1.6, 3.2) * scale
    trunk, thick = rng.uniform(0.2, 0.4) * height, rng.uniform(0.12, 0.25) * scale
    shade = light.on(lateral, depth)
    bark = np.array([0.36, 0.28, 0.22]) * rng.uniform(0.6, 1.2)
    canvas.polygon(
      np.array(
        [
          [x - thick, y],
          [x + thick, y],
          [x + 0.7 * thick, y - 1.4 * trunk],
          [x - 0.7 * thick, y - 1.4 * trunk],
        ]
      ),
      shade(bark),
      VEGETATION,
    )
    self._leaves(canvas, (x - spread, y - height, x + spread, y - trunk), shade, rng)

  def draw_bush(
    self,
    canvas: Canvas,
    camera: Camera,
    light: Light,
    lateral: float,
    depth: float,
    rng: np.random.Generator,
  ) -> None:
    """A bush or a piece of hedge."""
    x, y = camera.project((lateral, 0.0, depth))[0]
    scale = camera.focal / depth
    half, height = rng.uniform(0.7, 2.2) * scale, rng.uniform(0.8, 2.0) * scale
    self._leaves(
      canvas, (x - half, y - height, x + half, y + 0.15 * height), light.on(lateral, depth), rng
    )

  def _leaves(
    self,
    canvas: Canvas,
    box: tuple[float, float, float, float],
    shade: Shade,
    rng: np.random.Generator,
  ) -> None:
    texture = shade(self.textures[rng.integers(2)] * np.float32(rng.uniform(0.85, 1.12)))
    mask = self.masks[rng.integers(2)]
    if rng.random() < 0.5:
      texture, mask = np.ascontiguousarray(texture[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    canvas.sprite(box, texture, mask, VEGETATION)


def draw_fence(
  canvas: Canvas,
  camera: Camera,
  light: Light,
  lateral: float,
  start: float,
  end: float,
  rng: np.random.Generator,
) -> None:
  """A fence along the street: pickets, boards, railings or mesh; the gaps belong to it."""
  height = rng.uniform(0.9, 1.7)
  color = np.array(
    (
      (0.88, 0.88, 0.85),
      (0.48, 0.34, 0.22),
      (0.20, 0.24, 0.22),
      (0.56, 0.58, 0.60),
      (0.66, 0.50, 0.34),
    )[rng.integers(5)]
  )
  period = int(rng.integers(3, 7))
  texture = np.empty((16, 4 * period * max(1, round(end - start)), 3), np.float32)
  texture[:] = color * rng.uniform(0.35, 0.7)
  texture[:, np.arange(texture.shape[1]) % period < (period + 1) // 2] = color
  texture[2:4] = texture[12:14] = color * 0.9
  texture = cv2.resize(texture, (max(2, texture.shape[1] // 2), 16), interpolation=cv2.INTER_AREA)
  shade = light.on(lateral, 0.6 * start + 0.4 * end, "left" if lateral > 0 else "right")
  corners = camera.project(
    (lateral, height, start), (lateral, height, end), (lateral, 0.0, end), (lateral, 0.0, start)
  )
  canvas.quad(corners, shade(texture), FENCE)


def draw_lamp_post(
  canvas: Canvas,
  camera: Camera,
  light: Light,
  lateral: float,
  depth: float,
  rng: np.random.Generator,
) -> tuple[float, float]:
  """A street lamp that leans over the road; returns where its light is, in samples."""
  height, arm = rng.uniform(4.5, 7.0), rng.uniform(0.6, 1.8) * (-1 if lateral > 0 else 1)
  color = np.array(
    ((0.46, 0.47, 0.48), (0.16, 0.17, 0.18), (0.24, 0.34, 0.28), (0.62, 0.60, 0.54))[
      rng.integers(4)
    ]
  )
  shade = light.on(lateral, depth)
  _post(canvas, camera, lateral, depth, height, 0.11, shade(color))
  a, b = camera.project((lateral, height, depth), (lateral + arm, height, depth))
  thick = np.array([0, max(0.07 * camera.focal / depth, 0.6)])
  canvas.polygon(np.array([a - thick, b - thick, b + thick, a + thick]), shade(color), POLE)
  head = 0.22 * camera.focal / depth
  canvas.ellipse(b, (1.6 * head, head * 0.7), shade([0.8, 0.8, 0.76], 1.1 * light.lamp_color), POLE)
  return float(b[0]), float(b[1])


def draw_sign(
  canvas: Canvas,
  camera: Camera,
  light: Light,
  lateral: float,
  depth: float,
  rng: np.random.Generator,
) -> None:
  """A traffic sign on its pole: disc, triangle, square, diamond or board."""
  height, size = rng.uniform(2.1, 2.9), rng.uniform(0.40, 0.58)
  shade = light.on(lateral, depth)
  _post(canvas, camera, lateral, depth, height, 0.07, shade(_STEEL))
  center = camera.project((lateral, height, depth))[0]
  radius = size * camera.focal / depth
  red, blue, white, yellow = (
    (0.76, 0.10, 0.10),
    (0.10, 0.28, 0.68),
    (0.92, 0.92, 0.90),
    (0.93, 0.76, 0.10),
  )
  kind = rng.integers(6)
  corners, turn = (
    (20, 0.0),
    (20, 0.0),
    (3, -np.pi / 2),
    (4, -np.pi / 4),
    (4, 0.0),
    (8, np.pi / 8),
  )[kind]
  inner, outer = (
    (white, red),
    (blue, white),
    (white, red),
    (blue, white),
    (yellow, white),
    (red, white),
  )[kind]
  angles = turn + 2 * np.pi * np.arange(corners) / corners
  rim = np.stack([np.cos(angles), np.sin(angles)], -1) * radius
  reflected = 0.25 * light.headlight
  canvas.polygon(center + rim, shade(outer, reflected), SIGN)
  canvas.polygon(center + 0.72 * rim, shade(inner, reflected), SIGN)
  if rng.random() < 0.5:
    bar = np.array([[-0.4, -0.12], [0.4, -0.12], [0.4, 0.12], [-0.4, 0.12]]) * radius
    canvas.polygon(center + bar, shade(white if kind in (1, 3, 5) else (0.1, 0.1, 0.1)), SIGN)


def draw_gantry(
  canvas: Canvas, camera: Camera, light: Light, reach: float, depth: float, rng: np.random.Generator
) -> None:
  """A direction board over the road between two posts."""
  shade = light.on(0.0, depth)
  height = rng.uniform(4.8, 5.6)
  for lateral in (-reach, reach):
    _post(canvas, camera, lateral, depth, height, 0.14, shade(1.1 * _STEEL))
  half, middle = rng.uniform(0.35, 0.7) * reach, rng.uniform(-0.25, 0.25) * reach
  _board(canvas, camera, depth, (-reach, reach), (height, height - 0.3), shade(_STEEL), POLE)
  board = np.array(((0.08, 0.36, 0.24), (0.10, 0.26, 0.60), (0.90, 0.90, 0.88))[rng.integers(3)])
  for grow, color in ((0.0, np.array([0.9, 0.9, 0.9])), (0.12, board)):
    _board(
      canvas,
      camera,
      depth,
      (middle - half + grow, middle + half - grow),
      (height + 0.35 - grow, height - 1.3 + grow),
      shade(color, 0.2 * light.headlight),
      SIGN,
    )


def _board(
  canvas: Canvas,
  camera: Camera,
  depth: float,
  across: tuple[float, float],
  up: tuple[float, float],
  color: np.ndarray,
  class_id: int,
) -> None:
  (x0, x1), (y0, y1) = across, up
  corners = camera.project((x0, y0, depth), (x1, y0, depth), (x1, y1, depth), (x0, y1, depth))
  canvas.polygon(corners, color, class_id)


def _post(
  canvas: Canvas,
  camera: Camera,
  lateral: float,
  depth: float,
  height: float,
  half_width: float,
  color: np.ndarray,
) -> None:
  foot, top = camera.project((lateral, 0.0, depth), (lateral, height, depth))
  aside = np.array([max(half_width * camera.focal / depth, 0.8), 0.0])
  canvas.polygon(np.array([foot - aside, foot + aside, top + aside, top - aside]), color, POLE)
