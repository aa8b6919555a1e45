"""From clips to tubelets and tokens: cutting, normalizing, embedding, positions.

A tubelet is the block of pixels behind one token. Only the tubelets that are asked for are turned
into floating point and embedded, so that a mask that hides 90 % saves 90 % of this work too.

Axes: ``tokens`` run over slices, then rows, then columns; ``voxels`` are the frames, rows and
columns inside one tubelet, flattened; ``picked`` is the number of tokens taken from each clip.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor, nn

from sigma_pipeline.model.products import linear

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def cut_tubelets(
    clip: UInt8[Tensor, "batch channels frames height width"], tubelet_frames: int, patch_size: int
) -> UInt8[Tensor, "batch tokens channels voxels"]:
    """Pixels of every tubelet of the clips, as a copy that is contiguous per tubelet."""
    batch, channels, frames, height, width = clip.shape
    slices, rows, columns = frames // tubelet_frames, height // patch_size, width // patch_size
    blocks = clip.reshape(
        batch, channels, slices, tubelet_frames, rows, patch_size, columns, patch_size
    ).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return blocks.reshape(batch, slices * rows * columns, channels, -1)


def pick_tokens(
    tokens: Shaped[Tensor, "batch tokens *features"], index: Int[Tensor, "batch picked"]
) -> Shaped[Tensor, "batch picked *features"]:
    """The tokens at ``index`` of each clip, in that order."""
    batch, num_tokens = tokens.shape[:2]
    starts = torch.arange(0, batch * num_tokens, num_tokens, device=index.device)
    # One flat index_select copies whole rows; gather would need the index at every element.
    picked = tokens.flatten(0, 1).index_select(0, (index + starts[:, None]).flatten())
    return picked.view(batch, index.shape[1], *tokens.shape[2:])


def position_table(num_tokens: int, dim: int) -> Float[Tensor, "tokens dim"]:
    """Fixed sines and cosines of the flattened token number (protocols 1.1).

    Channel pairs (2i, 2i + 1) hold sine and cosine of ``token / 10000^(2i / dim)``. Rows do not
    depend on ``num_tokens``: shorter clips use the first rows of the same table.
    """
    pairs = torch.arange(dim, dtype=torch.float64) // 2
    frequency = torch.exp(pairs * (-2 * math.log(10000) / dim))
    angle = torch.arange(num_tokens, dtype=torch.float64)[:, None] * frequency
    is_even = torch.arange(dim) % 2 == 0
    return torch.where(is_even, angle.sin(), angle.cos()).float()


def interpolated_positions(
    table: Float[Tensor, "slices rows columns dim"], *, rows: int, columns: int
) -> Float[Tensor, "tokens dim"]:
    """The positions of a frame on another grid: between those of ``table``, bicubically.

    A place of the frame keeps its position, however many tokens the frame is cut into, which the
    rule of the table itself does not give.
    """
    channels_first = table.permute(0, 3, 1, 2)
    resized = F.interpolate(channels_first, size=(rows, columns), mode="bicubic")
    return resized.permute(0, 2, 3, 1).flatten(0, 2)


class TubeletProjection(nn.Module):
    """One linear map of a tubelet; parameters are shaped and drawn as those of a ``Conv3d``.

    A convolution whose stride is its kernel is a linear map of each block. Written as such it can
    be applied to the visible blocks alone.
    """

    def __init__(self, embed_dim: int, tubelet_frames: int, patch_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(embed_dim, len(IMAGENET_MEAN), tubelet_frames, patch_size, patch_size)
        )
        self.bias = nn.Parameter(torch.empty(embed_dim))
        bound = self.weight[0].numel() ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(
        self, pixels: Float[Tensor, "batch tokens values"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Embeds tubelets given as (channel, frame, row, column), flattened."""
        return linear(pixels, self.weight.flatten(1), self.bias)


class PatchEmbed(nn.Module):
    """Normalizes uint8 tubelets by the ImageNet statistics and embeds them."""

    scale: Tensor
    shift: Tensor

    def __init__(self, embed_dim: int, tubelet_frames: int, patch_size: int) -> None:
        super().__init__()
        self.proj = TubeletProjection(embed_dim, tubelet_frames, patch_size)
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("scale", (1 / (255 * std))[:, None], persistent=False)
        self.register_buffer("shift", (-mean / std)[:, None], persistent=False)

    def forward(
        self, tubelets: UInt8[Tensor, "batch tokens channels voxels"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Embeds each tubelet by itself."""
        pixels = torch.addcmul(self.shift, tubelets.to(self.scale.dtype), self.scale)
        tokens: Tensor = self.proj(pixels.flatten(2))
        return tokens
