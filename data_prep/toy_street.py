"""The camera, the course of the street, and the two large surfaces: the sky and the ground.

World: lateral position L from the middle of the road, height Y, distance Z ahead, in metres.
"""
from dataclasses import dataclass

import cv2
import numpy as np

from data_prep.toy_canvas import PAVEMENT, ROAD, SKY, TERRAIN, Canvas
from data_prep.toy_weather import Conditions, Light, pick

ASPHALTS = ((.30, .30, .32), (.42, .42, .43), (.55, .54, .52), (.24, .25, .29), (.46, .40, .38),
            (.38, .37, .33))
SLABS = ((.66, .65, .63), (.58, .44, .38), (.72, .66, .55), (.50, .50, .54), (.62, .56, .58),
         (.54, .50, .44))
GRASSES = {'spring': ((.36, .56, .20), (.44, .60, .26)), 'summer': ((.34, .50, .18), (.60, .58, .30)),
           'autumn': ((.50, .46, .22), (.46, .36, .20)), 'winter': ((.46, .44, .30), (.42, .35, .26))}
DISTRICTS = {'downtown': .3, 'suburb': .24, 'avenue': .22, 'park': .14, 'industrial': .1}


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
  def sample(rng: np.random.Generator, height: int, width: int, lane: float) -> 'Camera':
    """A camera somewhere on the right half of the road, or on the middle."""
    return Camera(height, width, width * rng.uniform(.72, 1.15), width * rng.uniform(.3, .7),
                  height * rng.uniform(.36, .56), rng.uniform(1.3, 2.4), lane * rng.uniform(-.2, .7),
                  rng.choice([0., 1.]) * rng.uniform(-.006, .006), rng.normal(0, .025))

  def project(self, lateral, up, depth) -> np.ndarray:
    """World points (three sequences of length N, or scalars) -> [N,2] samples (x, y)."""
    lateral, up, depth = np.broadcast_arrays(*(np.asarray(a, float) for a in (lateral, up, depth)))
    scale = self.focal / depth
    x = self.vanish_x + scale * (lateral - self.aside + .5 * self.bend * depth * depth)
    y = self.horizon + scale * (self.above - up)
    dx, dy = x - self.width / 2, y - self.height / 2
    c, s = np.cos(self.roll), np.sin(self.roll)
    points = self.width / 2 + c * dx - s * dy, self.height / 2 + s * dx + c * dy
    return np.stack(points, -1).reshape(-1, 2)

  def unproject_ground(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Lateral position and distance [h,W] float32 of the ground; distance <= 0 above the horizon."""
    dy, dx = np.mgrid[rows, :self.width].astype(np.float32)
    dx -= self.width / 2 - .5
    dy -= self.height / 2 - .5
    c, s = np.float32(np.cos(self.roll)), np.float32(np.sin(self.roll))
    x, below = c * dx + s * dy, c * dy - s * dx
    below += np.float32(self.height / 2 - self.horizon)
    depth = np.float32(self.focal * self.above) / np.where(below > .05, below, -1)
    x += np.float32(self.width / 2 - self.vanish_x)
    lateral = x * depth / np.float32(self.focal) + np.float32(self.aside)
    return lateral - np.float32(.5 * self.bend) * depth * depth, depth


@dataclass(frozen=True)
class Street:
  """The cross section of the street and what it is made of; index 0 is the left side, 1 the right."""
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
  def sample(rng: np.random.Generator, conditions: Conditions) -> 'Street':
    """Draws a street; both sides are mostly of one kind."""
    first = pick(rng, DISTRICTS)
    district = (first, first if rng.random() < .6 else pick(rng, DISTRICTS))
    yards = {'downtown': (0., 1.), 'suburb': (3., 8.), 'avenue': (1., 5.), 'park': (2., 9.),
             'industrial': (2., 7.)}
    paved = {'downtown': .9, 'suburb': .1, 'avenue': .4, 'park': .03, 'industrial': .4}
    gaps, z = [], rng.uniform(8, 50)
    while rng.random() < .6 and z < 90:
      gaps.append((z, z + rng.uniform(6, 11)))
      z += rng.uniform(25, 60)
    verge = tuple(rng.uniform(.6, 2.) * (rng.random() < .3) for _ in district)
    low, high = (np.array(c) for c in GRASSES[conditions.season])
    return Street(
      road=rng.uniform(3., 6.5), verge=verge, pavement=tuple(rng.uniform(1.4, 4., 2)),
      setback=tuple(rng.uniform(*yards[d]) for d in district), district=district,
      gaps=tuple(gaps), paved_beyond=tuple(rng.random() < paved[d] for d in district),
      asphalt=_material(rng, ASPHALTS), slab=_material(rng, SLABS),
      grass=low + rng.random() * (high - low),
      markings=str(rng.choice(['none', 'dashed', 'dashed', 'solid', 'double', 'edges'])),
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


def _material(rng: np.random.Generator, choices) -> np.ndarray:
  return np.array(choices[rng.integers(len(choices))]) * rng.uniform(.85, 1.15)


def noise_field(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]
                ) -> np.ndarray:
  """Smooth noise [h,w] float32 in [0, 1]: random values on a grid of `cells`, interpolated."""
  grid = rng.random(cells, np.float32)
  return cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC)


def paint_sky(canvas: Canvas, camera: Camera, conditions: Conditions, rng: np.random.Generator
              ) -> None:
  """Covers the whole canvas: gradient, clouds, a sun low over the horizon, stars."""
  h, w = canvas.height, canvas.width
  fall = np.clip(np.arange(h) / camera.horizon, 0, 1)[:, None, None] ** rng.uniform(.6, 2.)
  sky = (conditions.zenith + fall * (conditions.horizon - conditions.zenith)).astype(np.float32)
  sky = np.repeat(sky, w, 1)
  amount = conditions.cover * .5 + rng.random() * .6
  clouds = noise_field(rng, (h, w), (7, 4)) * .65 + noise_field(rng, (h, w), (18, 9)) * .35
  clouds = np.clip((clouds - 1. + amount * .8) * 3, 0, 1)[..., None] * np.float32(.8)
  tone = conditions.ambient * rng.uniform(.9, 1.5) + conditions.sun * .6
  sky += clouds * (tone.astype(np.float32) - sky)
  if conditions.time == 'low_sun' and conditions.cover < .5 and conditions.sun_behind < .5:
    x = camera.vanish_x + conditions.sun_side * w * rng.uniform(.05, .4)
    y = camera.horizon * rng.uniform(.5, .95)
    distance = (np.arange(h)[:, None] - y) ** 2 + (np.arange(w) - x) ** 2
    halo = .5 * np.exp(-distance / (.1 * w) ** 2) + np.exp(-distance / (.03 * w) ** 2)
    sky += halo[..., None].astype(np.float32) * np.float32([1., .85, .55])
  canvas.area(slice(0, h), sky, np.full((h, w), SKY, np.uint8), np.ones((h, w), bool))


def paint_ground(canvas: Canvas, camera: Camera, street: Street, light: Light, shadows: np.ndarray,
                 rng: np.random.Generator) -> None:
  """Everything below the horizon; `shadows` [2H,2W] float32 is the share of the sun that is lost."""
  slope = abs(np.tan(camera.roll)) * camera.width / 2
  rows = slice(max(int(camera.horizon - slope) - 1, 0), canvas.height)
  lateral, depth = camera.unproject_ground(rows)
  visible = depth > 0
  depth = np.clip(depth, .5, 400)
  classes = _ground_classes(street, lateral, depth)
  materials = np.zeros((256, 3), np.float32)
  materials[[ROAD, PAVEMENT, TERRAIN]] = street.asphalt, street.slab, street.grass
  albedo = materials[classes]
  albedo *= _texture(street, classes, lateral, depth, rng)[..., None]
  _paint_markings(albedo, street, classes, lateral, depth, rng)
  if light.conditions.snow:
    _lay_snow(albedo, light.conditions.snow, street, classes, lateral, rng)
  albedo *= 1 - np.float32(.4 * light.conditions.wetness) * (classes != TERRAIN)[..., None]
  radiance = albedo * (light.local(lateral, depth)
                       + light.direct('up').astype(np.float32) * (1 - shadows[rows])[..., None])
  canvas.area(rows, light.through_air(radiance, depth).astype(np.float32), classes, visible)


def _ground_classes(street: Street, lateral: np.ndarray, depth: np.ndarray) -> np.ndarray:
  aside, right = np.abs(lateral), lateral > 0
  kerb, edge = (np.where(right, f(1), f(0)).astype(np.float32) for f in (street.kerb, street.edge))
  beyond = np.where(right, *(PAVEMENT if p else TERRAIN for p in street.paved_beyond[::-1]))
  classes = np.where(aside < edge, PAVEMENT, beyond).astype(np.uint8)
  classes[aside < kerb] = TERRAIN
  for start, end in street.gaps:
    classes[(depth > start) & (depth < end)] = ROAD
  classes[aside < street.road] = ROAD
  return classes


def _texture(street: Street, classes, lateral, depth, rng: np.random.Generator) -> np.ndarray:
  """Brightness [h,W] around 1: patches everywhere, joints between slabs, a kerb, tufts of grass."""
  h, w = classes.shape
  patches = noise_field(rng, (h, w), (9, 9))
  texture = 1 + (patches - .5) * np.float32(rng.uniform(.05, .45))
  grain = rng.random((h, w), np.float32) - .5
  texture += grain * np.where(classes == TERRAIN, np.float32(.5), np.float32(.16))
  joints = ((lateral * 1.4) % 1 < .1) | ((depth * rng.uniform(.8, 1.6)) % 1 < .1)
  texture[(classes == PAVEMENT) & joints & (depth < 14)] *= rng.uniform(.72, .95)
  stone = np.abs(np.abs(lateral) - street.road) < .1
  texture[stone & (depth < 40)] *= rng.uniform(1.1, 1.5)
  return texture


def _paint_markings(albedo, street: Street, classes, lateral, depth, rng) -> None:
  white = np.float32([.85, .85, .82]) * np.float32(rng.uniform(.8, 1.1))
  half = .08 + depth * np.float32(.0012)
  aside = np.abs(lateral)
  dashes = (depth + rng.uniform(0, 8)) % 8 < 4
  lines = {'none': np.zeros_like(dashes), 'dashed': (aside < half) & dashes, 'solid': aside < half,
           'double': np.abs(aside - .18) < half * .8,
           'edges': (np.abs(aside - street.road + .4) < half) | ((aside < half) & dashes)}
  drawn = lines[street.markings]
  for start, end in street.gaps:
    drawn &= (depth < start) | (depth > end)
  if street.crossing:
    zebra = (np.abs(depth - street.crossing) < 1.6) & ((lateral + 50) % 1.1 < .55)
    drawn = zebra | (drawn & (np.abs(depth - street.crossing) > 2.))
  drawn &= classes == ROAD
  drawn &= aside < street.road
  albedo[drawn] = .25 * albedo[drawn] + .75 * white


def _lay_snow(albedo, cover: float, street: Street, classes, lateral, rng) -> None:
  h, w = classes.shape
  depth_of_snow = noise_field(rng, (h, w), (12, 12)) * .5 + cover
  tracks = np.abs(np.abs(np.abs(lateral) - street.road * .5) - .8) < .45
  cleared = rng.uniform(.0, 1.)
  share = np.where(classes == ROAD, depth_of_snow - .25 - .6 * cleared - .35 * tracks,
                   depth_of_snow - .2 * cleared * (classes == PAVEMENT))
  share = np.clip(share * 2.5 - .6, 0, .93)[..., None].astype(np.float32)
  albedo += share * (np.float32([.92, .94, .98]) - albedo)
