"""Houses, blocks and halls beside the street of the toy city, and the skyline behind it."""
from dataclasses import dataclass

import numpy as np

from data_prep.toy_canvas import BUILDING, VEGETATION, Canvas
from data_prep.toy_street import Camera, Street
from data_prep.toy_weather import Light, Shade

WALLS = ((.58, .30, .22), (.42, .22, .18), (.76, .66, .50), (.88, .86, .82), (.86, .76, .48),
         (.78, .56, .50), (.56, .64, .72), (.62, .62, .62), (.40, .42, .46), (.46, .36, .27),
         (.58, .64, .54), (.70, .48, .28), (.30, .38, .46), (.82, .80, .72), (.52, .26, .30))
ROOFS = ((.60, .28, .18), (.32, .32, .36), (.42, .30, .24), (.50, .48, .46), (.28, .36, .34))
_STOREY, _CELL = 3.1, 12    # metres, texels


@dataclass(frozen=True)
class Building:
  """A box beside the street from distance `start` to `end`, with or without a gable roof."""
  side: int              # 0 left, 1 right
  front: float           # lateral distance of its street face from the middle of the road
  start: float
  end: float
  height: float
  depth: float           # how far it reaches away from the street
  wall: np.ndarray
  roof: np.ndarray | None
  window: tuple[float, float]   # share of a bay's width and of a storey's height
  glass: np.ndarray
  courses: float         # contrast of the brick courses or panels
  shops: bool

  @staticmethod
  def sample(rng: np.random.Generator, side: int, street: Street, start: float, end: float
             ) -> 'Building':
    """A building as the district has them."""
    district = street.district[side]
    heights = {'downtown': (9, 32), 'suburb': (4, 7.5), 'avenue': (8, 18), 'park': (4, 12),
               'industrial': (5, 10)}
    gabled = rng.random() < {'downtown': .1, 'suburb': .9, 'avenue': .4}.get(district, .3)
    height = rng.uniform(*heights[district])
    glassy = height > 14 and rng.random() < .4
    wall = np.array(WALLS[rng.integers(len(WALLS))]) * rng.uniform(.8, 1.12)
    return Building(
      side=side, front=street.front(side) + rng.uniform(0, .6), start=start, end=end,
      height=height, depth=rng.uniform(6, 14), wall=np.clip(wall, .05, .95),
      roof=np.array(ROOFS[rng.integers(len(ROOFS))]) if gabled else None,
      window=(rng.uniform(.75, .9), rng.uniform(.6, .85)) if glassy else
      (rng.uniform(.3, .6), rng.uniform(.35, .6)),
      glass=np.array([.22, .27, .34]) * rng.uniform(.6, 2.2), courses=rng.uniform(0, .22),
      shops=district in ('downtown', 'avenue') and rng.random() < .6)


def draw_building(canvas: Canvas, camera: Camera, b: Building, light: Light,
                  rng: np.random.Generator) -> None:
  """The street face, the end wall that looks at the camera, and the roof."""
  sign = 1 if b.side else -1
  normal = 'left' if b.side else 'right'
  middle = .5 * (b.start + b.end)
  near, far, back = sign * b.front, sign * b.front, sign * (b.front + b.depth)
  texture, glow = _facade(b, b.end - b.start, light, rng)
  face = light.on(near, middle, normal)
  street_face = camera.project([near, far, far, near], [b.height, b.height, 0, 0],
                               [b.start, b.end, b.end, b.start])
  canvas.quad(street_face, _in_air(face, texture, glow, b, light), BUILDING)
  if b.roof is not None:
    _draw_roof(canvas, camera, b, light, sign, normal)
  texture, glow = _facade(b, b.depth, light, rng)
  shade = light.on(near, b.start, 'front')
  end_wall = camera.project([near, back, back, near], [b.height, b.height, 0, 0], b.start)
  canvas.quad(end_wall, shade(texture, glow), BUILDING)
  if b.roof is not None:
    gable = camera.project([near, .5 * (near + back), back],
                           [b.height, b.height + .4 * b.depth, b.height], b.start)
    canvas.polygon(gable, shade(b.wall * .95), BUILDING)


def _draw_roof(canvas, camera, b: Building, light: Light, sign: int, normal: str) -> None:
  ridge, eaves = sign * (b.front + .5 * b.depth), sign * (b.front - .3)
  top = b.height + .4 * b.depth
  slope = camera.project([eaves, eaves, ridge, ridge], [b.height - .1, b.height - .1, top, top],
                         [b.start, b.end, b.end, b.start])
  snow = light.conditions.snow
  color = b.roof + min(1., 1.3 * snow) * (np.array([.9, .92, .96]) - b.roof)
  sun_up, sun_face = light.direct('up'), light.direct(normal)
  shade = light.on(eaves, .5 * (b.start + b.end), 'up' if sun_up.sum() > sun_face.sum() else normal)
  canvas.polygon(slope, shade(color), BUILDING)


def _facade(b: Building, length: float, light: Light, rng: np.random.Generator):
  """Colours [h,w,3] and light given off [h,w,3] of a wall: storeys, bays, windows, shops."""
  storeys, bays = max(1, round(b.height / _STOREY)), max(1, min(12, round(length / 2.8)))
  h, w = storeys * _CELL, bays * _CELL
  wall = np.empty((h, w, 3), np.float32)
  wall[:] = b.wall
  wall *= 1 + np.float32(b.courses) * (np.arange(h) % 3 == 0)[:, None, None].astype(np.float32)
  wall *= .88 + np.float32(.24) * rng.random((h, w, 1), np.float32)
  inside = np.arange(_CELL) + .5
  open_x = np.abs(inside / _CELL - .5) < b.window[0] / 2
  open_y = np.abs(inside / _CELL - .5) < b.window[1] / 2
  panes = np.tile(np.outer(open_y, open_x), (storeys, bays))
  tint = rng.random((storeys, bays, 1), np.float32)
  glass = b.glass.astype(np.float32) * (.6 + .8 * tint)
  lit = (rng.random((storeys, bays, 1)) < .4) * np.float32(light.conditions.lamps_on)
  glow = lit * (.35 + .5 * tint) * np.float32([1., .82, .5])
  if b.shops:
    panes[-_CELL:] = (np.arange(w) % _CELL > 1) & ((np.arange(_CELL) > 3)[:, None])
    glass[-1] = rng.random((bays, 3), np.float32) * .6
    glow[-1] = np.float32(light.conditions.lamps_on) * (.3 + .7 * rng.random((bays, 3), np.float32))
    wall[-_CELL:-_CELL + 3] = rng.random(3, np.float32)
  glass, glow = (a.repeat(_CELL, 0).repeat(_CELL, 1) for a in (glass, glow))
  panes = panes[..., None]
  return np.where(panes, glass, wall), np.where(panes, glow, 0)


def _in_air(shade: Shade, texture, glow, b: Building, light: Light) -> np.ndarray:
  """The street face in the light of its middle, with the haze of each of its columns."""
  w = texture.shape[1]
  depth = b.start + (np.arange(w, dtype=np.float32) + .5) / w * (b.end - b.start)
  middle = np.exp(-.5 * (b.start + b.end) / light.conditions.visibility)
  return light.through_air(texture * (shade.gain / middle).astype(np.float32) + glow,
                           depth[None]).astype(np.float32)


def draw_skyline(canvas: Canvas, camera: Camera, street: Street, light: Light,
                 rng: np.random.Generator) -> None:
  """A row of far blocks and treetops on the horizon, 150 to 250 m away."""
  wooded = .75 if 'park' in street.district or 'suburb' in street.district else .3
  x = -.1 * canvas.width
  foliage = np.array([.26, .36, .16]) * rng.uniform(.7, 1.2)
  while x < 1.1 * canvas.width:
    depth = rng.uniform(150, 250)
    scale = camera.focal / depth
    trees = rng.random() < wooded
    width = (rng.uniform(8, 30) if trees else rng.uniform(12, 30)) * scale
    top = (rng.uniform(5, 14) if trees else rng.uniform(8, 40)) * scale
    tilt = np.tan(camera.roll) * (x + width / 2 - canvas.width / 2)
    base = camera.horizon + tilt
    shade = light.on(60., depth)
    if trees:
      for shift in (.2, .5, .8):
        canvas.ellipse((x + shift * width, base), (.3 * width, top * rng.uniform(.7, 1.)),
                       shade(foliage * rng.uniform(.8, 1.2)), VEGETATION)
    else:
      box = np.array([[x, base - top], [x + width, base - top], [x + width, base + 2],
                      [x, base + 2]])
      wall = np.array(WALLS[rng.integers(len(WALLS))])
      canvas.polygon(box, shade(.8 * wall), BUILDING)
    x += width * rng.uniform(.5, 1.)
