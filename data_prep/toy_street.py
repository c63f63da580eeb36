"""The camera, the course of the street, and the two large surfaces: the sky and the ground.

World: lateral position L from the middle of the road, height Y, distance Z ahead, in metres.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data_prep.toy_canvas import PAVEMENT, ROAD, SKY, TERRAIN, Canvas
from data_prep.toy_weather import Conditions, Light, pick

ASPHALTS = ((.30, .30, .32), (.42, .42, .43), (.55, .54, .52), (.24, .25, .29), (.46, .40, .38),
            (.38, .37, .33))
SLABS = ((.66, .65, .63), (.58, .44, .38), (.72, .66, .55), (.50, .50, .54), (.62, .56, .58),
         (.54, .50, .44))
GRASSES = {"spring": ((.36, .56, .20), (.44, .60, .26)),
           "summer": ((.34, .50, .18), (.60, .58, .30)),
           "autumn": ((.50, .46, .22), (.46, .36, .20)),
           "winter": ((.46, .44, .30), (.42, .35, .26))}
DISTRICTS = {"downtown": .26, "suburb": .26, "avenue": .2, "park": .16, "industrial": .12}


@dataclass(frozen=True)
class Camera:
  """A pinhole camera over a street that bends; pictures are `height` x `width` samples."""
  height: int
  width: int
  focal: float           # samples
  vanish_x: float        # where the street would vanish if it were straight, samples
  horizon: float         # row of the horizon, samples
  above: float           # metres over the road
  aside: float           # metres to the right of the middle of the road
  bend: float            # 1 / metres
  roll: float            # radians

  @staticmethod
  def sample(rng: np.random.Generator, height: int, width: int, lane: float) -> "Camera":
    """A camera over the road, mostly in the right lane."""
    return Camera(
      height, width, focal=width * rng.uniform(.68, 1.1), vanish_x=width * rng.uniform(.28, .72),
      horizon=height * rng.uniform(.34, .54), above=rng.uniform(1.4, 2.7),
      aside=lane * rng.uniform(-.3, 1.4), roll=rng.normal(0, .025),
      bend=rng.uniform(-.006, .006) if rng.random() < .5 else 0.)

  def project(self, *points: tuple[float, float, float]) -> np.ndarray:
    """World points (L, Y, Z) -> [N,2] samples (x, y)."""
    c, s = math.cos(self.roll), math.sin(self.roll)
    ahead_x, ahead_y = self.vanish_x - self.width / 2, self.horizon - self.height / 2
    found = []
    for lateral, up, depth in points:    # plain floats: four points take a tenth of numpy's time
      scale = self.focal / depth
      dx = ahead_x + scale * (lateral - self.aside + .5 * self.bend * depth * depth)
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
    depth = np.float32(self.focal * self.above) / np.where(below > .05, below, -1)
    x += np.float32(self.width / 2 - self.vanish_x)
    lateral = x * depth / np.float32(self.focal) + np.float32(self.aside)
    return lateral - np.float32(.5 * self.bend) * depth * depth, depth


@dataclass(frozen=True)
class Street:
  """The cross section of the street and its materials; index 0 is the left side, 1 the right."""
  road: float                              # half the width of the road
  verge: tuple[float, float]               # width of the grass between kerb and pavement
  pavement: tuple[float, float]            # width
  setback: tuple[float, float]             # from the pavement to the houses
  district: tuple[str, str]
  gaps: tuple[tuple[float, float], ...]    # (from, to) distances at which a street crosses
  paved_beyond: tuple[bool, bool]          # what lies beside the pavement is paved too
  asphalt: np.ndarray
  slab: np.ndarray
  grass: np.ndarray
  markings: str                            # 'none' | 'dashed' | 'solid' | 'double' | 'edges'
  crossing: float                          # distance of a zebra crossing, 0 for none

  @staticmethod
  def sample(rng: np.random.Generator, conditions: Conditions) -> "Street":
    """Draws a street; both sides are mostly of one kind."""
    first = pick(rng, DISTRICTS)
    district = (first, first if rng.random() < .6 else pick(rng, DISTRICTS))
    yards = {"downtown": (0., 1.), "suburb": (3., 9.), "avenue": (1., 6.), "park": (3., 12.),
             "industrial": (2., 7.)}
    paved = {"downtown": .9, "suburb": .1, "avenue": .4, "park": .03, "industrial": .4}
    gaps, z = [], rng.uniform(8, 50)
    while rng.random() < .6 and z < 90:
      gaps.append((z, z + rng.uniform(6, 11)))
      z += rng.uniform(25, 60)
    verge = tuple(rng.uniform(.6, 2.) * (rng.random() < .3) for _ in district)
    low, high = (np.array(c) for c in GRASSES[conditions.season])
    return Street(
      road=rng.uniform(2.8, 5.2), verge=verge, pavement=tuple(rng.uniform(1.8, 5., 2)),
      setback=tuple(rng.uniform(*yards[d]) for d in district), district=district,
      gaps=tuple(gaps), paved_beyond=tuple(rng.random() < paved[d] for d in district),
      asphalt=_material(rng, ASPHALTS), slab=_material(rng, SLABS),
      grass=low + rng.random() * (high - low),
      markings=str(rng.choice(["none", "dashed", "dashed", "solid", "double", "edges"])),
      crossing=gaps[0][0] - 4 if gaps and rng.random() < .5 else 0.)

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
  return np.array(choices[rng.integers(len(choices))]) * rng.uniform(.85, 1.15)


def noise_field(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]
                ) -> np.ndarray:
  """Smooth noise [h,w] float32 in [0, 1]: random values on a grid of `cells`, interpolated."""
  return cv2.resize(rng.random(cells, np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)


def paint_sky(canvas: Canvas, camera: Camera, conditions: Conditions, rng: np.random.Generator
              ) -> None:
  """Covers the whole canvas: gradient, clouds, and a low sun before us."""
  h, w = canvas.height // 2, canvas.width // 2
  horizon = camera.horizon / 2
  fall = np.clip(np.arange(h) / horizon, 0, 1)[:, None, None] ** rng.uniform(.6, 2.)
  sky = (conditions.zenith + fall * (conditions.horizon - conditions.zenith)).astype(np.float32)
  clouds = noise_field(rng, (h, w), (7, 4)) * .65 + noise_field(rng, (h, w), (18, 9)) * .35
  amount = .6 * conditions.cover + rng.uniform(0, .5)
  clouds = np.clip((clouds - 1. + .8 * amount) * 3, 0, .8)[..., None]
  tone = conditions.ambient * rng.uniform(.9, 1.5) + conditions.sun * .6
  sky = sky + clouds * (tone.astype(np.float32) - sky)
  if conditions.time == "low_sun" and conditions.cover < .5 and conditions.sun_behind < .5:
    x = camera.vanish_x / 2 + conditions.sun_side * w * rng.uniform(.05, .4)
    y = horizon * rng.uniform(.5, .95)
    distance = (np.arange(h)[:, None] - y) ** 2 + (np.arange(w) - x) ** 2
    halo = .5 * np.exp(-distance / (.1 * w) ** 2) + np.exp(-distance / (.03 * w) ** 2)
    sky += halo[..., None].astype(np.float32) * np.float32([1., .85, .55])
  sky = cv2.resize(sky, (canvas.width, canvas.height), interpolation=cv2.INTER_LINEAR)
  everywhere = np.ones(sky.shape[:2], bool)
  canvas.area(slice(0, canvas.height), sky, np.full(sky.shape[:2], SKY, np.uint8), everywhere)


@dataclass(frozen=True)
class Ground:
  """The ground under every sample of the lower rows; all arrays [h,W]."""
  lateral: np.ndarray
  depth: np.ndarray
  classes: np.ndarray
  far_aside: np.ndarray    # |lateral|

  @staticmethod
  def seen(camera: Camera, street: Street, rows: slice) -> tuple["Ground", np.ndarray]:
    """The ground at `rows`, and where it is seen at all (not above the horizon)."""
    lateral, depth = camera.unproject_ground(rows)
    visible = depth > 0
    depth = np.clip(depth, .5, 400)
    far_aside, right = np.abs(lateral), lateral > 0
    kerb, edge = (np.where(right, np.float32(f(1)), np.float32(f(0)))
                  for f in (street.kerb, street.edge))
    left_floor, right_floor = (PAVEMENT if p else TERRAIN for p in street.paved_beyond)
    beyond = np.where(right, np.uint8(right_floor), np.uint8(left_floor))
    classes = np.where(far_aside < edge, np.uint8(PAVEMENT), beyond)
    classes = np.where(far_aside < kerb, np.uint8(TERRAIN), classes)
    road = far_aside < street.road
    for start, end in street.gaps:
      road |= (depth > start) & (depth < end)
    return Ground(lateral, depth, np.where(road, np.uint8(ROAD), classes), far_aside), visible


def paint_ground(canvas: Canvas, camera: Camera, street: Street, light: Light, shadows: np.ndarray,
                 rng: np.random.Generator) -> None:
  """Everything below the horizon; `shadows` [2H,2W] float32: the share of the sun that is lost."""
  slope = abs(math.tan(camera.roll)) * camera.width / 2
  rows = slice(max(int(camera.horizon - slope) - 1, 0), canvas.height)
  ground, visible = Ground.seen(camera, street, rows)
  materials = np.zeros((256, 3), np.float32)
  materials[[ROAD, PAVEMENT, TERRAIN]] = street.asphalt, street.slab, street.grass
  wet = np.float32(.4 * light.conditions.wetness)
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
  texture = 1 + (noise_field(rng, (h, w), (9, 9)) - .5) * np.float32(rng.uniform(.05, .5))
  grain = noise_field(rng, (h, w), (h // 2, w // 2)) - np.float32(.5)
  texture += grain * np.where(ground.classes == TERRAIN, np.float32(.6), np.float32(.2))
  joints = (_part(ground.lateral, 1.4) < .1) | (_part(ground.depth, rng.uniform(.8, 1.6)) < .1)
  joints &= (ground.classes == PAVEMENT) & (ground.depth < 14)
  texture *= 1 - np.float32(rng.uniform(.05, .28)) * joints
  kerb = (np.abs(ground.far_aside - street.road) < .1) & (ground.depth < 40)
  texture *= 1 + np.float32(rng.uniform(.1, .5)) * kerb
  return texture


def _part(position: np.ndarray, per_unit: float) -> np.ndarray:
  """Position inside a repeating interval, in [0, 1)."""
  scaled = position * np.float32(per_unit)
  return scaled - np.floor(scaled)


def _paint_markings(albedo: np.ndarray, street: Street, ground: Ground, rng: np.random.Generator
                    ) -> None:
  white = np.float32([.85, .85, .82]) * np.float32(rng.uniform(.8, 1.1))
  aside, depth = ground.far_aside, ground.depth
  half = .08 + depth * np.float32(.0012)
  drawn = aside < half
  if street.markings in ("dashed", "edges"):
    drawn &= _part(depth + np.float32(rng.uniform(0, 8)), 1 / 8) < .5
  if street.markings == "edges":
    drawn |= np.abs(aside - np.float32(street.road - .4)) < half
  elif street.markings == "double":
    drawn = np.abs(aside - np.float32(.18)) < half * np.float32(.8)
  elif street.markings == "none":
    drawn[:] = False
  for start, end in street.gaps:
    drawn &= (depth < start) | (depth > end)
  if street.crossing:
    from_zebra = np.abs(depth - np.float32(street.crossing))
    drawn &= from_zebra > 2.
    drawn |= (from_zebra < 1.6) & (_part(ground.lateral, .9) < .5)
  drawn &= aside < street.road
  albedo[drawn] = .25 * albedo[drawn] + .75 * white


def _lay_snow(albedo: np.ndarray, cover: float, street: Street, ground: Ground,
              rng: np.random.Generator) -> None:
  lying = noise_field(rng, ground.depth.shape, (12, 12)) * .5 + np.float32(cover)
  cleared = np.float32(rng.uniform(0, 1))
  tracks = np.abs(np.abs(ground.far_aside - np.float32(.5 * street.road)) - np.float32(.8)) < .45
  swept = np.where(
    ground.classes == ROAD, .25 + np.float32(.6) * cleared + np.float32(.35) * tracks,
    np.float32(.2) * cleared * (ground.classes == PAVEMENT))
  share = np.clip((lying - swept) * np.float32(2.5) - np.float32(.6), 0, .93)[..., None]
  albedo += share * (np.float32([.92, .94, .98]) - albedo)
