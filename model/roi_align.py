"""Features of boxes in a map of features (RoIAlign; He et al., "Mask R-CNN", 2017).

Axes: ``boxes`` of each map, as many for all; ``size`` is the side of what comes out.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def roi_align(
    maps: Float[Tensor, "batch dim rows columns"],
    boxes: Float[Tensor, "batch boxes corners=4"],
    size: int = 7,
) -> Float[Tensor, "batch boxes dim size size"]:
    """Each box cut into ``size`` x ``size`` parts, and the map's mean in each of them.

    Aligned: the value of a cell is that at its middle. Between middles it is interpolated, and
    beyond the outermost ones it stays as it is there. A part is sampled at the middles of as many
    equal pieces along each side as a part of the whole map has cells, rounded up.

    Args:
        maps: in float32 for exact results.
        boxes: x1, y1, x2, y2 as parts of the map's width and height; what lies outside is cut off.
        size: of the result.
    """
    pieces = math.ceil(max(maps.shape[-2:]) / size)
    boxes = boxes.to(maps.dtype).clamp(0, 1)
    steps = (torch.arange(size * pieces).to(maps) + 0.5) / (size * pieces)
    starts, sides = boxes[..., :2, None], (boxes[..., 2:] - boxes[..., :2])[..., None]
    across, down = (starts + sides * steps).unbind(dim=2)  # [batch, boxes, size * pieces]
    along = (len(maps), boxes.shape[1], size * pieces, size * pieces)
    grid = torch.stack([across[:, :, None].expand(along), down[..., None].expand(along)], dim=-1)
    # [-1, 1] are the outer edges of the outermost cells, as parts of the map's sides are.
    sampled = F.grid_sample(
        maps, 2 * grid.flatten(1, 2) - 1, padding_mode="border", align_corners=False
    )
    means = F.avg_pool2d(sampled, pieces)
    return means.view(*means.shape[:2], -1, size, size).transpose(1, 2)
