"""Houses, blocks and halls beside the street of the toy city, and the skyline behind it."""

from dataclasses import dataclass

import numpy as np

from data_prep.toy_city.canvas import BUILDING, VEGETATION, Canvas
from data_prep.toy_city.street import Camera, Street
from data_prep.toy_city.weather import Light, Shade

WALLS = (
  (0.58, 0.30, 0.22),
  (0.42, 0.22, 0.18),
  (0.76, 0.66, 0.50),
  (0.88, 0.86, 0.82),
  (0.86, 0.76, 0.48),
  (0.78, 0.56, 0.50),
  (0.56, 0.64, 0.72),
  (0.62, 0.62, 0.62),
  (0.40, 0.42, 0.46),
  (0.46, 0.36, 0.27),
  (0.58, 0.64, 0.54),
  (0.70, 0.48, 0.28),
  (0.30, 0.38, 0.46),
  (0.82, 0.80, 0.72),
  (0.52, 0.26, 0.30),
)
ROOFS = (
  (0.60, 0.28, 0.18),
  (0.32, 0.32, 0.36),
  (0.42, 0.30, 0.24),
  (0.50, 0.48, 0.46),
  (0.28, 0.36, 0.34),
)
_STOREY = 3.1  # meters


@dataclass(frozen=True)
class Building:
  """A box beside the street from distance `start` to `end`, with or without a gable roof."""

  side: int  # 0 left, 1 right
  front: float  # lateral distance of its street face from the middle of the road
  start: float
  end: float
  height: float
  depth: float  # how far it reaches away from the street
  wall: np.ndarray
  roof: np.ndarray | None
  window: tuple[float, float]  # share of a bay's width and of a story's height
  glass: np.ndarray
  courses: float  # contrast of the brick courses or panels
  shops: bool
  exposed: bool  # its near end wall can be seen

  @staticmethod
  def sample(
    rng: np.random.Generator, side: int, street: Street, start: float, end: float, exposed: bool
  ) -> "Building":
    """A building as the district has them."""
    district = street.district[side]
    heights = {
      "downtown": (9, 32),
      "suburb": (4, 7.5),
      "avenue": (8, 18),
      "park": (4, 12),
      "industrial": (5, 10),
    }
    gabled = rng.random() < {"downtown": 0.1, "suburb": 0.9, "avenue": 0.4}.get(district, 0.3)
    height = rng.uniform(*heights[district])
    glassy = height > 14 and rng.random() < 0.4
    wall = np.array(WALLS[rng.integers(len(WALLS))]) * rng.uniform(0.8, 1.12)
    return Building(
      side=side,
      front=street.front(side) + rng.uniform(0, 0.6),
      start=start,
      end=end,
      height=height,
      depth=rng.uniform(6, 14),
      wall=np.clip(wall, 0.05, 0.95),
      roof=np.array(ROOFS[rng.integers(len(ROOFS))]) if gabled else None,
      window=(rng.uniform(0.75, 0.9), rng.uniform(0.6, 0.85))
      if glassy
      else (rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.6)),
      glass=np.array([0.22, 0.27, 0.34]) * rng.uniform(0.6, 2.2),
      courses=rng.uniform(0, 0.22),
      shops=district in ("downtown", "avenue") and rng.random() < 0.6,
      exposed=exposed,
    )


def draw_building(
  canvas: Canvas, camera: Camera, b: Building, light: Light, rng: np.random.Generator
) -> None:
  """The street face, the roof, and the end wall that looks at the camera."""
  sign = 1 if b.side else -1
  normal = "left" if b.side else "right"
  near, back = sign * b.front, sign * (b.front + b.depth)
  street_face = camera.project(
    (near, b.height, b.start), (near, b.height, b.end), (near, 0, b.end), (near, 0, b.start)
  )
  end_wall = camera.project(
    (near, b.height, b.start), (back, b.height, b.start), (back, 0, b.start), (near, 0, b.start)
  )
  story = camera.focal / b.start * _STOREY
  cell = 12 if story > 40 else 6 if story > 12 else 3
  if canvas.shows(street_face):
    texture, glow = _facade(b, b.end - b.start, cell, light, rng)
    shade = light.on(near, 0.5 * (b.start + b.end), normal)
    shade = _along_the_street(b, shade, light, texture.shape[1])
    canvas.quad(street_face, shade(texture, glow), BUILDING)
  if b.roof is not None:
    _draw_roof(canvas, camera, b, light, sign, normal)
  if not b.exposed:
    return
  shade = light.on(near, b.start)
  if canvas.shows(end_wall):
    canvas.quad(end_wall, shade(*_facade(b, b.depth, cell, light, rng)), BUILDING)
  if b.roof is not None:
    gable = camera.project(
      (near, b.height, b.start),
      (back, b.height, b.start),
      (0.5 * (near + back), b.height + 0.4 * b.depth, b.start),
    )
    canvas.polygon(gable, shade(b.wall * 0.95), BUILDING)


def _draw_roof(
  canvas: Canvas, camera: Camera, b: Building, light: Light, sign: int, normal: str
) -> None:
  ridge, eaves = sign * (b.front + 0.5 * b.depth), sign * (b.front - 0.3)
  low, top = b.height - 0.1, b.height + 0.4 * b.depth
  distance = b.front - 0.3 - sign * camera.aside
  if (low - camera.above) * 0.5 * b.depth > (top - low) * distance:
    return  # so high and near that only the underside of the roof would show
  slope = camera.project(
    (eaves, low, b.start), (eaves, low, b.end), (ridge, top, b.end), (ridge, top, b.start)
  )
  snow = min(1.0, 1.3 * light.conditions.snow)
  color = b.roof + snow * (np.array([0.9, 0.92, 0.96]) - b.roof)
  brighter = max("up", normal, key=lambda n: light.direct(n).sum())
  canvas.polygon(slope, light.on(eaves, 0.5 * (b.start + b.end), brighter)(color), BUILDING)


def _facade(
  b: Building, length: float, cell: int, light: Light, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Colors [h,w,3] and light given off [h,w,3] of a wall: stories, bays, windows, shops.

  A window and the wall around it take `cell` x `cell` texels.
  """
  stories, bays = max(1, round(b.height / _STOREY)), max(1, min(10, round(length / 2.8)))
  h, w = stories * cell, bays * cell
  course = 1 + b.courses * (np.arange(h) % 3 == 0)[:, None, None]
  wall = (b.wall * course).astype(np.float32) * (
    0.88 + np.float32(0.24) * rng.random((h, w, 1), np.float32)
  )
  middle = np.abs((np.arange(cell) + 0.5) / cell - 0.5)
  panes = np.tile(np.outer(middle < b.window[1] / 2, middle < b.window[0] / 2), (stories, bays))
  tint = rng.random((stories, bays, 1), np.float32)
  glass = b.glass.astype(np.float32) * (0.6 + 0.8 * tint)
  burning = np.float32(light.conditions.lamps_on)
  glow = (
    (rng.random((stories, bays, 1), np.float32) < 0.4)
    * burning
    * (0.35 + 0.5 * tint)
    * np.float32([1.0, 0.82, 0.5])
  )
  if b.shops:
    panes[-cell:] = (np.arange(w) % cell > cell // 8) & (np.arange(cell) >= cell // 3)[:, None]
    glass[-1] = rng.random((bays, 3), np.float32) * 0.6
    glow[-1] = burning * (0.3 + 0.7 * rng.random((bays, 3), np.float32))
    wall[-cell : -cell + cell // 4] = rng.random(3, np.float32)
  glass, glow = (a.repeat(cell, 0).repeat(cell, 1) for a in (glass, glow))
  panes = panes[..., None]
  return np.where(panes, glass, wall), glow * panes


def _along_the_street(b: Building, shade: Shade, light: Light, columns: int) -> Shade:
  """`shade`, which holds at the middle of the street face, with the air before each column."""
  depth = b.start + (np.arange(columns) + 0.5) / columns * (b.end - b.start)
  clear = np.exp(-depth / light.conditions.visibility)[:, None].astype(np.float32)
  return Shade(shade.gain * (clear / clear.mean()), light.conditions.air * (1 - clear))


def draw_skyline(
  canvas: Canvas, camera: Camera, street: Street, light: Light, rng: np.random.Generator
) -> None:
  """A row of far blocks and treetops on the horizon, 150 to 250 m away."""
  wooded = 0.75 if "park" in street.district or "suburb" in street.district else 0.3
  x = -0.1 * canvas.width
  foliage = np.array([0.26, 0.36, 0.16]) * rng.uniform(0.7, 1.2)
  while x < 1.1 * canvas.width:
    depth = rng.uniform(150, 250)
    scale = camera.focal / depth
    trees = rng.random() < wooded
    width = (rng.uniform(8, 30) if trees else rng.uniform(12, 30)) * scale
    top = (rng.uniform(5, 14) if trees else rng.uniform(8, 40)) * scale
    tilt = np.tan(camera.roll) * (x + width / 2 - canvas.width / 2)
    base = camera.horizon + tilt
    shade = light.on(60.0, depth)
    if trees:
      crown = np.empty((9, 2))
      crown[:, 0] = x + width * np.linspace(0, 1, 9)
      crown[:, 1] = base - top * rng.uniform(0.5, 1.0, 9)
      crown[[0, -1], 1] = base + 2
      canvas.polygon(crown, shade(foliage * rng.uniform(0.8, 1.2)), VEGETATION)
    else:
      box = np.array(
        [[x, base - top], [x + width, base - top], [x + width, base + 2], [x, base + 2]]
      )
      wall = np.array(WALLS[rng.integers(len(WALLS))])
      canvas.polygon(box, shade(0.8 * wall), BUILDING)
    x += width * rng.uniform(0.5, 1.0)
