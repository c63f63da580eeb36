"""The camera, the course of the street, and the two large surfaces: the sky and the ground.

World: lateral position L from the middle of the road, height Y, distance Z ahead, in meters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data_prep.toy_city.canvas import PAVEMENT, ROAD, SKY, TERRAIN, Canvas
from data_prep.toy_city.weather import Conditions, Light, pick

ASPHALTS = (
  (0.30, 0.30, 0.32),
  (0.42, 0.42, 0.43),
  (0.55, 0.54, 0.52),
  (0.24, 0.25, 0.29),
  (0.46, 0.40, 0.38),
  (0.38, 0.37, 0.33),
)
SLABS = (
  (0.66, 0.65, 0.63),
  (0.58, 0.44, 0.38),
  (0.72, 0.66, 0.55),
  (0.50, 0.50, 0.54),
  (0.62, 0.56, 0.58),
  (0.54, 0.50, 0.44),
)
GRASSES = {
  "spring": ((0.36, 0.56, 0.20), (0.44, 0.60, 0.26)),
  "summer": ((0.34, 0.50, 0.18), (0.60, 0.58, 0.30)),
  "autumn": ((0.50, 0.46, 0.22), (0.46, 0.36, 0.20)),
  "winter": ((0.46, 0.44, 0.30), (0.42, 0.35, 0.26)),
}
DISTRICTS = {"downtown": 0.26, "suburb": 0.26, "avenue": 0.2, "park": 0.16, "industrial": 0.12}


@dataclass(frozen=True)
class Camera:
  """A pinhole camera over a street that bends; pictures are `height` x `width` samples."""

  height: int
  width: int
  focal: float  # samples
  vanish_x: float  # where the street would vanish if it were straight, samples
  horizon: float  # row of the horizon, samples
  above: float  # meters over the road
  aside: float  # meters to the right of the middle of the road
  bend: float  # 1 / meters
  roll: float  # radians

  @staticmethod
  def sample(rng: np.random.Generator, height: int, width: int, lane: float) -> "Camera":
    """A camera over the road, mostly in the right lane."""
    return Camera(
      height,
      width,
      focal=width * rng.uniform(0.68, 1.1),
      vanish_x=width * rng.uniform(0.28, 0.72),
      horizon=height * rng.uniform(0.34, 0.54),
      above=rng.uniform(1.4, 2.7),
      aside=lane * rng.uniform(-0.3, 1.4),
      roll=rng.normal(0, 0.025),
      bend=rng.uniform(-0.006, 0.006) if rng.random() < 0.5 else 0.0,
    )

  def project(self, *points: tuple[float, float, float]) -> np.ndarray:
    """World points (L, Y, Z) -> [N,2] samples (x, y)."""
    c, s = math.cos(self.roll), math.sin(self.roll)
    ahead_x, ahead_y = self.vanish_x - self.width / 2, self.horizon - self.height / 2
    found = []
    for lateral, up, depth in points:  # plain floats: four points take a tenth of numpy's time
      scale = self.focal / depth
      dx = ahead_x + scale * (lateral - self.aside + 0.5 * self.bend * depth * depth)
      dy = ahead_y + scale * (self.above - up)
      found.append((self.width / 2 + c * dx - s * dy, self.height / 2 + s * dx + c * dy))
    return np.array(found)

  def unproject_ground(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Lateral position and distance [h,W] float32 of the ground; distance < 0 in the sky."""
    dx = np.arange(self.width, dtype=np.float32) - np.float32(self.width / 2)
    dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(self.height / 2)
    c, s = np.float32(math.cos(self.roll)), np.float32(math.sin(self.roll))
    x, below = c * dx + s * dy, c * dy - s * dx
    below += np.float32(self.height / 2 - self.horizon)
    depth = np.float32(self.focal * self.above) / np.where(below > 0.05, below, -1)
    x += np.float32(self.width / 2 - self.vanish_x)
    lateral = x * depth / np.float32(self.focal) + np.float32(self.aside)
    return lateral - np.float32(0.5 * self.bend) * depth * depth, depth


@dataclass(frozen=True)
class Street:
  """The cross section of the street and its materials; index 0 is the left side, 1 the right."""

  road: float  # half the width of the road
  verge: tuple[float, float]  # width of the grass between kerb and pavement
  pavement: tuple[float, float]  # width
  setback: tuple[float, float]  # from the pavement to the houses
  district: tuple[str, str]
  gaps: tuple[tuple[float, float], ...]  # (from, to) distances at which a street crosses
  paved_beyond: tuple[bool, bool]  # what lies beside the pavement is paved too
  asphalt: np.ndarray
  slab: np.ndarray
  grass: np.ndarray
  markings: str  # 'none' | 'dashed' | 'solid' | 'double' | 'edges'
  crossing: float  # distance of a zebra crossing, 0 for none

  @staticmethod
  def sample(rng: np.random.Generator, conditions: Conditions) -> "Street":
    """Draws a street; both sides are mostly of one kind."""
    first = pick(rng, DISTRICTS)
    district = (first, first if rng.random() < 0.6 else pick(rng, DISTRICTS))
    yards = {
      "downtown": (0.0, 1.0),
      "suburb": (3.0, 9.0),
      "avenue": (1.0, 6.0),
      "park": (3.0, 12.0),
      "industrial": (2.0, 7.0),
    }
    paved = {"downtown": 0.9, "suburb": 0.1, "avenue": 0.4, "park": 0.03, "industrial": 0.4}
    gaps, z = [], rng.uniform(8, 50)
    while rng.random() < 0.6 and z < 90:
      gaps.append((z, z + rng.uniform(6, 11)))
      z += rng.uniform(25, 60)
    verge = tuple(rng.uniform(0.6, 2.0) * (rng.random() < 0.3) for _ in district)
    low, high = (np.array(c) for c in GRASSES[conditions.season])
    return Street(
      road=rng.uniform(2.8, 5.2),
      verge=verge,
      pavement=tuple(rng.uniform(1.8, 5.0, 2)),
      setback=tuple(rng.uniform(*yards[d]) for d in district),
      district=district,
      gaps=tuple(gaps),
      paved_beyond=tuple(rng.random() < paved[d] for d in district),
      asphalt=_material(rng, ASPHALTS),
      slab=_material(rng, SLABS),
      grass=low + rng.random() * (high - low),
      markings=str(rng.choice(["none", "dashed", "dashed", "solid", "double", "edges"])),
      crossing=gaps[0][0] - 4 if gaps and rng.random() < 0.5 else 0.0,
    )

  def kerb(self, side: int) -> float:
    """Distance of the pavement's inner edge from the middle of the road."""
    return self.road + self.verge[side]

  def edge(self, side: int) -> float:
    """Distance of the pavement's outer edge from the middle of the road."""
    return self.kerb(side) + self.pavement[side]

  def front(self, side: int) -> float:
    """Distance of the houses from the middle of the road."""
    return self.edge(side) + self.setback[side]


def _material(rng: np.random.Generator, choices: Sequence[tuple[float, ...]]) -> np.ndarray:
  return np.array(choices[rng.integers(len(choices))]) * rng.uniform(0.85, 1.15)


def noise_field(
  rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]
) -> np.ndarray:
  """Smooth noise [h,w] float32 in [0, 1]: random values on a grid of `cells`, interpolated."""
  return cv2.resize(rng.random(cells, np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)


def paint_sky(
  canvas: Canvas, camera: Camera, conditions: Conditions, rng: np.random.Generator
) -> None:
  """Covers the whole canvas: gradient, clouds, and a low sun before us."""
  h, w = canvas.height // 2, canvas.width // 2
  horizon = camera.horizon / 2
  fall = np.clip(np.arange(h) / horizon, 0, 1)[:, None, None] ** rng.uniform(0.6, 2.0)
  sky = (conditions.zenith + fall * (conditions.horizon - conditions.zenith)).astype(np.float32)
  clouds = noise_field(rng, (h, w), (7, 4)) * 0.65 + noise_field(rng, (h, w), (18, 9)) * 0.35
  amount = 0.6 * conditions.cover + rng.uniform(0, 0.5)
  clouds = np.clip((clouds - 1.0 + 0.8 * amount) * 3, 0, 0.8)[..., None]
  tone = conditions.ambient * rng.uniform(0.9, 1.5) + conditions.sun * 0.6
  sky = sky + clouds * (tone.astype(np.float32) - sky)
  if conditions.time == "low_sun" and conditions.cover < 0.5 and conditions.sun_behind < 0.5:
    x = camera.vanish_x / 2 + conditions.sun_side * w * rng.uniform(0.05, 0.4)
    y = horizon * rng.uniform(0.5, 0.95)
    distance = (np.arange(h)[:, None] - y) ** 2 + (np.arange(w) - x) ** 2
    halo = 0.5 * np.exp(-distance / (0.1 * w) ** 2) + np.exp(-distance / (0.03 * w) ** 2)
    sky += halo[..., None].astype(np.float32) * np.float32([1.0, 0.85, 0.55])
  sky = cv2.resize(sky, (canvas.width, canvas.height), interpolation=cv2.INTER_LINEAR)
  everywhere = np.ones(sky.shape[:2], bool)
  canvas.area(slice(0, canvas.height), sky, np.full(sky.shape[:2], SKY, np.uint8), everywhere)


@dataclass(frozen=True)
class Ground:
  """The ground under every sample of the lower rows; all arrays [h,W]."""

  lateral: np.ndarray
  depth: np.ndarray
  classes: np.ndarray
  far_aside: np.ndarray  # |lateral|

  @staticmethod
  def seen(camera: Camera, street: Street, rows: slice) -> tuple["Ground", np.ndarray]:
    """The ground at `rows`, and where it is seen at all (not above the horizon)."""
    lateral, depth = camera.unproject_ground(rows)
    visible = depth > 0
    depth = np.clip(depth, 0.5, 400)
    far_aside, right = np.abs(lateral), lateral > 0
    kerb, edge = (
      np.where(right, np.float32(f(1)), np.float32(f(0))) for f in (street.kerb, street.edge)
    )
    left_floor, right_floor = (PAVEMENT if p else TERRAIN for p in street.paved_beyond)
    beyond = np.where(right, np.uint8(right_floor), np.uint8(left_floor))
    classes = np.where(far_aside < edge, np.uint8(PAVEMENT), beyond)
    classes = np.where(far_aside < kerb, np.uint8(TERRAIN), classes)
    road = far_aside < street.road
    for start, end in street.gaps:
      road |= (depth > start) & (depth < end)
    return Ground(lateral, depth, np.where(road, np.uint8(ROAD), classes), far_aside), visible


def paint_ground(
  canvas: Canvas,
  camera: Camera,
  street: Street,
  light: Light,
  shadows: np.ndarray,
  rng: np.random.Generator,
) -> None:
  """Everything below the horizon; `shadows` [2H,2W] float32: the share of the sun that is lost."""
  slope = abs(math.tan(camera.roll)) * camera.width / 2
  rows = slice(max(int(camera.horizon - slope) - 1, 0), canvas.height)
  ground, visible = Ground.seen(camera, street, rows)
  materials = np.zeros((256, 3), np.float32)
  materials[[ROAD, PAVEMENT, TERRAIN]] = street.asphalt, street.slab, street.grass
  wet = np.float32(0.4 * light.conditions.wetness)
  materials[[ROAD, PAVEMENT]] *= 1 - wet
  albedo = np.take(materials, ground.classes, axis=0)
  albedo *= _texture(street, ground, rng)[..., None]
  _paint_markings(albedo, street, ground, rng)
  if light.conditions.snow:
    _lay_snow(albedo, light.conditions.snow, street, ground, rng)
  received = light.local(ground.lateral, ground.depth)
  if light.conditions.sun.any():
    received = received + light.direct("up") * (1 - shadows[rows])[..., None]
  albedo *= received
  canvas.area(rows, light.through_air(albedo, ground.depth), ground.classes, visible)


def _texture(street: Street, ground: Ground, rng: np.random.Generator) -> np.ndarray:
  """Brightness [h,W] around 1: patches everywhere, joints of slabs, a kerb, tufts of grass."""
  h, w = ground.depth.shape
  texture = 1 + (noise_field(rng, (h, w), (9, 9)) - 0.5) * np.float32(rng.uniform(0.05, 0.5))
  grain = noise_field(rng, (h, w), (h // 2, w // 2)) - np.float32(0.5)
  texture += grain * np.where(ground.classes == TERRAIN, np.float32(0.6), np.float32(0.2))
  joints = (_part(ground.lateral, 1.4) < 0.1) | (_part(ground.depth, rng.uniform(0.8, 1.6)) < 0.1)
  joints &= (ground.classes == PAVEMENT) & (ground.depth < 14)
  texture *= 1 - np.float32(rng.uniform(0.05, 0.28)) * joints
  kerb = (np.abs(ground.far_aside - street.road) < 0.1) & (ground.depth < 40)
  texture *= 1 + np.float32(rng.uniform(0.1, 0.5)) * kerb
  return texture


def _part(position: np.ndarray, per_unit: float) -> np.ndarray:
  """Position inside a repeating interval, in [0, 1)."""
  scaled = position * np.float32(per_unit)
  return scaled - np.floor(scaled)


def _paint_markings(
  albedo: np.ndarray, street: Street, ground: Ground, rng: np.random.Generator
) -> None:
  white = np.float32([0.85, 0.85, 0.82]) * np.float32(rng.uniform(0.8, 1.1))
  aside, depth = ground.far_aside, ground.depth
  half = 0.08 + depth * np.float32(0.0012)
  drawn = aside < half
  if street.markings in ("dashed", "edges"):
    drawn &= _part(depth + np.float32(rng.uniform(0, 8)), 1 / 8) < 0.5
  if street.markings == "edges":
    drawn |= np.abs(aside - np.float32(street.road - 0.4)) < half
  elif street.markings == "double":
    drawn = np.abs(aside - np.float32(0.18)) < half * np.float32(0.8)
  elif street.markings == "none":
    drawn[:] = False
  for start, end in street.gaps:
    drawn &= (depth < start) | (depth > end)
  if street.crossing:
    from_zebra = np.abs(depth - np.float32(street.crossing))
    drawn &= from_zebra > 2.0
    drawn |= (from_zebra < 1.6) & (_part(ground.lateral, 0.9) < 0.5)
  drawn &= aside < street.road
  albedo[drawn] = 0.25 * albedo[drawn] + 0.75 * white


def _lay_snow(
  albedo: np.ndarray, cover: float, street: Street, ground: Ground, rng: np.random.Generator
) -> None:
  lying = noise_field(rng, ground.depth.shape, (12, 12)) * 0.5 + np.float32(cover)
  cleared = np.float32(rng.uniform(0, 1))
  tracks = np.abs(np.abs(ground.far_aside - np.float32(0.5 * street.road)) - np.float32(0.8)) < 0.45
  swept = np.where(
    ground.classes == ROAD,
    0.25 + np.float32(0.6) * cleared + np.float32(0.35) * tracks,
    np.float32(0.2) * cleared * (ground.classes == PAVEMENT),
  )
  share = np.clip((lying - swept) * np.float32(2.5) - np.float32(0.6), 0, 0.93)[..., None]
  albedo += share * (np.float32([0.92, 0.94, 0.98]) - albedo)
