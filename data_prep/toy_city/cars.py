"""The cars of the toy city."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from data_prep.toy_city.canvas import CAR, Canvas
from data_prep.toy_city.street import Camera
from data_prep.toy_city.weather import Light, Shade, pick

PAINTS = (
  (0.90, 0.90, 0.90),
  (0.10, 0.10, 0.12),
  (0.62, 0.64, 0.66),
  (0.36, 0.37, 0.40),
  (0.70, 0.10, 0.10),
  (0.12, 0.22, 0.55),
  (0.15, 0.36, 0.25),
  (0.85, 0.66, 0.12),
  (0.50, 0.36, 0.26),
  (0.20, 0.55, 0.68),
  (0.82, 0.42, 0.12),
  (0.44, 0.10, 0.18),
  (0.78, 0.74, 0.62),
)
# length, width, height, height of the bonnet, start and end of the cabin as shares of the length
BODIES = {
  "hatchback": (3.9, 1.75, 1.5, 0.90, 0.03, 0.68),
  "saloon": (4.6, 1.8, 1.45, 0.90, 0.16, 0.74),
  "estate": (4.7, 1.85, 1.75, 1.0, 0.02, 0.72),
  "van": (5.2, 2.0, 2.3, 1.2, 0.0, 0.86),
  "bus": (9.5, 2.5, 3.1, 1.3, 0.0, 0.98),
}
BODY_SHARES = {"hatchback": 0.34, "saloon": 0.28, "estate": 0.2, "van": 0.12, "bus": 0.06}
_BLACK = np.array([0.06, 0.06, 0.07])


@dataclass(frozen=True)
class Body:
  """The body of a car, in meters; `cabin` is where its cabin begins and ends, as shares."""

  length: float
  width: float
  height: float
  belt: float
  cabin: tuple[float, float]
  paint: np.ndarray

  @staticmethod
  def sample(rng: np.random.Generator, mirrored: bool) -> "Body":
    """A body of some kind and color; `mirrored` turns its front toward us."""
    length, width, height, belt, first, last = BODIES[pick(rng, BODY_SHARES)]
    paint = np.array(PAINTS[rng.integers(len(PAINTS))]) * rng.uniform(0.85, 1.1)
    cabin = (1 - last, 1 - first) if mirrored else (first, last)
    return Body(length, width, height, belt, cabin, paint)


def draw_car(
  canvas: Canvas,
  camera: Camera,
  light: Light,
  lateral: float,
  start: float,
  oncoming: bool,
  rng: np.random.Generator,
) -> None:
  """A car along the street, its near end at distance `start`."""
  body = Body.sample(rng, mirrored=oncoming)
  left, right = lateral - body.width / 2, lateral + body.width / 2
  side = left if lateral > camera.aside else right
  _draw_flank(canvas, camera, light, body, start, side, side - lateral)

  def patch(shade: Shade, color: ArrayLike, *points: tuple[float, float, float]) -> None:
    canvas.polygon(camera.project(*points), shade(color), CAR)

  end, top = light.on(lateral, start), light.on(lateral, start, "up")
  low, belt, high = 0.28, body.belt, body.height
  c0, c1 = start + body.cabin[0] * body.length, start + body.cabin[1] * body.length
  r0, r1 = c0 + 0.08 * body.length, c1 - 0.1 * body.length
  left_roof, right_roof = left + 0.12 * body.width, right - 0.12 * body.width
  patch(
    top,
    body.paint,
    (left, belt, start),
    (right, belt, start),
    (right, belt, start + body.length),
    (left, belt, start + body.length),
  )
  patch(
    top,
    body.paint + 0.8 * light.conditions.snow * (0.92 - body.paint),
    (left_roof, high, r0),
    (right_roof, high, r0),
    (right_roof, high, r1),
    (left_roof, high, r1),
  )
  patch(
    end,
    body.paint * 0.95,
    (left, belt, c0),
    (right, belt, c0),
    (right_roof, high, r0),
    (left_roof, high, r0),
  )
  patch(
    end,
    _glass(light),
    (left_roof, belt + 0.05, c0),
    (right_roof, belt + 0.05, c0),
    (right_roof - 0.05, high - 0.09, c0),
    (left_roof + 0.05, high - 0.09, c0),
  )

  def plate(
    color: ArrayLike, x0: float, x1: float, y0: float, y1: float, glow: ArrayLike = 0.0
  ) -> None:
    corners = camera.project((x0, y0, start), (x1, y0, start), (x1, y1, start), (x0, y1, start))
    canvas.polygon(corners, end(np.array(color), glow), CAR)

  plate(body.paint, left, right, low, belt)
  if start > 45:
    return  # what follows would be smaller than a pixel
  plate([0.06] * 3, left + 0.1, left + 0.4, 0.05, 0.45)
  plate([0.06] * 3, right - 0.4, right - 0.1, 0.05, 0.45)
  plate(body.paint * 0.55, left, right, low, 0.46)
  lamp, power = ((0.95, 0.95, 0.85), 1.1) if oncoming else ((0.62, 0.08, 0.06), 0.5)
  for x in (left + 0.24, right - 0.24):
    plate(lamp, x - 0.2, x + 0.2, 0.62, 0.82, np.float32(lamp) * power * light.conditions.lamps_on)
  plate([0.85, 0.85, 0.8], lateral - 0.26, lateral + 0.26, 0.5, 0.62)


def _draw_flank(
  canvas: Canvas,
  camera: Camera,
  light: Light,
  body: "Body",
  start: float,
  side: float,
  outward: float,
) -> None:
  """The side of a car at lateral position `side`: body, wheels, windows."""
  shade = light.on(side, start, "left" if outward < 0 else "right")
  end, belt, high = start + body.length, body.belt, body.height
  flank = camera.project(
    (side, 0.28, start), (side, 0.28, end), (side, belt, end), (side, belt, start)
  )
  canvas.polygon(flank, shade(body.paint * 0.9), CAR)
  for z in (start + 0.2 * body.length, start + 0.8 * body.length):
    back, hub, fore = camera.project((side, 0.3, z - 0.32), (side, 0.32, z), (side, 0.3, z + 0.32))
    axes = max(0.5 * abs(back[0] - fore[0]), 0.4), 0.33 * camera.focal / z
    canvas.ellipse(hub, axes, shade(_BLACK), CAR)
  c0, c1 = start + body.cabin[0] * body.length, start + body.cabin[1] * body.length
  roof = side - 0.24 * outward
  windows = camera.project(
    (side, belt, c0),
    (side, belt, c1),
    (roof, high, c1 - 0.1 * body.length),
    (roof, high, c0 + 0.08 * body.length),
  )
  canvas.polygon(windows, shade(_glass(light)), CAR)


def draw_crossing_car(
  canvas: Canvas,
  camera: Camera,
  light: Light,
  lateral: float,
  depth: float,
  rng: np.random.Generator,
) -> None:
  """A car that drives across our street, seen from its side."""
  body = Body.sample(rng, mirrored=rng.random() < 0.5)
  shade = light.on(lateral, depth)
  belt, high, end = body.belt, body.height, lateral + body.length
  c0, c1 = lateral + body.cabin[0] * body.length, lateral + body.cabin[1] * body.length

  def patch(color: ArrayLike, *points: tuple[float, float]) -> None:
    canvas.polygon(camera.project(*((x, y, depth) for x, y in points)), shade(color), CAR)

  patch(
    body.paint,
    (lateral, 0.28),
    (end, 0.28),
    (end, belt),
    (c1 + 0.1, belt),
    (c1 - 0.4, high),
    (c0 + 0.4, high),
    (c0 - 0.1, belt),
    (lateral, belt),
  )
  patch(
    _glass(light),
    (c0 + 0.1, belt),
    (c1 - 0.1, belt),
    (c1 - 0.5, high - 0.12),
    (c0 + 0.5, high - 0.12),
  )
  for x in (lateral + 0.2 * body.length, lateral + 0.8 * body.length):
    radius = 0.34 * camera.focal / depth
    canvas.ellipse(camera.project((x, 0.33, depth))[0], (radius, radius), shade(_BLACK), CAR)


def _glass(light: Light) -> np.ndarray:
  return np.array([0.13, 0.16, 0.20]) + 0.10 * light.conditions.horizon
