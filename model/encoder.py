"""The video encoder: what pre-training is for.

Axes: ``slices`` are tubelets along time, ``rows`` and ``columns`` those of a frame; ``picked`` is
the number of visible tokens of each clip; ``blocks`` and ``halves`` are those of the transformer.
"""

import copy
from collections.abc import Collection
from typing import Literal

from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.patches import (
    PatchEmbed,
    cut_tubelets,
    interpolated_positions,
    pick_tokens,
    position_table,
)
from sigma_pipeline.model.transformer import Block, layer_norm, run_blocks

Positions = Literal["interpolated", "flattened"]
"""Of frames on another grid than that of pre-training. ``interpolated``: between the positions of
that grid, bicubically; ``flattened``: by the number of the token, as protocols 1.1 has it."""


class Encoder(nn.Module):
    """Vision transformer over tubelets, without a class token."""

    positions: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_shape_px = (config.frame_size_px, config.frame_size_px)
        """Height and width of the frames it takes: those of ``config``, but see ``at_shape``."""
        dim = config.encoder.embed_dim
        self.patch_embed = PatchEmbed(dim, config.tubelet_frames, config.patch_size_px)
        self.blocks = nn.ModuleList(Block(config.encoder) for _ in range(config.encoder.depth))
        self.norm: nn.Module = layer_norm(dim)
        self.register_buffer("positions", position_table(config.num_tokens, dim), persistent=False)

    def forward(
        self,
        tubelets: UInt8[Tensor, "batch tokens channels voxels"],
        visible: Int[Tensor, "batch picked"] | None = None,
        scales: Float[Tensor, "batch blocks halves"] | None = None,
    ) -> Float[Tensor, "batch picked dim"]:
        """Features of the visible tubelets, or of all when ``visible`` is None.

        Args:
            tubelets: pixels of all tubelets of the clips, as ``cut_tubelets`` returns them.
            visible: token numbers to look at; the others cost nothing and are not seen.
            scales: of stochastic depth, as ``branch_scales`` draws them.
        """
        features: Tensor = self.norm(self._through_blocks(tubelets, visible, scales))
        return features

    def at_size(self, *, num_frames: int, frame_size_px: int) -> "Encoder":
        """This encoder for clips of another length or size, with the same weights.

        Positions are computed for the new number of tokens, by the rule of protocols 1.1, as the
        published code does for fine-tuning at another size. The weights are shared, not copied.

        Raises:
            ValueError: ``num_frames`` or ``frame_size_px`` cannot be cut into whole tubelets.
        """
        other_size = {"num_frames": num_frames, "frame_size_px": frame_size_px}
        config = ModelConfig.model_validate(self.config.model_dump() | other_size)
        positions = position_table(config.num_tokens, config.encoder.embed_dim)
        other = self._with_positions(positions, (frame_size_px, frame_size_px))
        other.config = config
        return other

    def at_shape(
        self, *, height_px: int, width_px: int, positions: Positions = "interpolated"
    ) -> "Encoder":
        """This encoder for frames of any height and width, with the same weights.

        For what no ``config`` says, which stays that of the square. The weights are shared, not
        copied.

        Raises:
            ValueError: ``height_px`` or ``width_px`` cannot be cut into whole patches.
        """
        patch, dim = self.config.patch_size_px, self.config.encoder.embed_dim
        if height_px % patch or width_px % patch or min(height_px, width_px) < patch:
            raise ValueError(
                f"frames of {height_px}x{width_px} px cannot be cut into patches of "
                f"patch_size_px={patch}"
            )
        rows, columns = height_px // patch, width_px // patch
        if positions == "flattened":
            table = position_table(self.config.num_slices * rows * columns, dim)
        else:
            own_rows, own_columns = (side // patch for side in self.frame_shape_px)
            own = self.positions.view(-1, own_rows, own_columns, dim)
            table = interpolated_positions(own, rows=rows, columns=columns)
        return self._with_positions(table, (height_px, width_px))

    def encode(
        self, clip: UInt8[Tensor, "batch channels frames height width"]
    ) -> Float[Tensor, "batch slices rows columns dim"]:
        """Features of whole clips, with the final norm, for evaluation and fine-tuning.

        Clips may be shorter than those of pre-training: positions of a short clip are the first
        ones of a long clip.

        Raises:
            ValueError: the frames are of another size, or do not make 1 to ``num_slices`` slices.
        """
        features: Tensor = self(self._tubelets(clip))
        return self._on_grid(features)

    def encode_unnormalized(
        self,
        clip: UInt8[Tensor, "batch channels frames height width"],
        scales: Float[Tensor, "batch blocks halves"] | None = None,
    ) -> Float[Tensor, "batch slices rows columns dim"]:
        """Tokens of whole clips without the final norm: what fine-tuning averages (protocols 2).

        Args:
            clip: as ``encode`` takes it.
            scales: of stochastic depth, as ``branch_scales`` draws them.

        Raises:
            ValueError: as ``encode``.
        """
        return self._on_grid(self._through_blocks(self._tubelets(clip), None, scales))

    def encode_layers(
        self, clip: UInt8[Tensor, "batch channels frames height width"], layers: Collection[int]
    ) -> dict[int, Float[Tensor, "batch slices rows columns dim"]]:
        """Tokens of whole clips after several blocks, in one pass, without gradient checkpointing.

        Args:
            clip: as ``encode`` takes it.
            layers: -1 the last block, after the final norm, as ``encode``; -2 the block before it
                as it is, and so on.

        Raises:
            ValueError: as ``encode``.
        """
        tubelets = self._tubelets(clip)
        tokens = self.patch_embed(tubelets) + self.positions[: tubelets.shape[1]]
        kept = {}
        for layer, block in enumerate(self.blocks, start=-len(self.blocks)):
            tokens = block(tokens)
            if layer in layers:
                kept[layer] = self._on_grid(self.norm(tokens) if layer == -1 else tokens)
        return kept

    def _through_blocks(
        self,
        tubelets: UInt8[Tensor, "batch tokens channels voxels"],
        visible: Int[Tensor, "batch picked"] | None,
        scales: Float[Tensor, "batch blocks halves"] | None,
    ) -> Float[Tensor, "batch picked dim"]:
        if visible is None:
            tokens = self.patch_embed(tubelets) + self.positions[: tubelets.shape[1]]
        else:
            embedded = self.patch_embed(pick_tokens(tubelets, visible))
            tokens = embedded + self.positions[visible]
        return run_blocks(
            self.blocks,
            tokens,
            scales=scales,
            is_checkpointed=self.config.execution.activation_checkpointing,
        )

    def _tubelets(
        self, clip: UInt8[Tensor, "batch channels frames height width"]
    ) -> UInt8[Tensor, "batch tokens channels voxels"]:
        config = self.config
        num_frames, *shape = clip.shape[2:]
        if tuple(shape) != self.frame_shape_px:
            raise ValueError(
                f"frames are {shape[0]}x{shape[1]} px; this encoder was built for "
                f"{self._frame_size_text()}"
            )
        if num_frames % config.tubelet_frames or not 0 < num_frames <= config.num_frames:
            raise ValueError(
                f"clips have {num_frames} frames; this encoder takes multiples of "
                f"tubelet_frames={config.tubelet_frames} up to num_frames={config.num_frames}"
            )
        return cut_tubelets(clip, config.tubelet_frames, config.patch_size_px)

    def _on_grid(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch slices rows columns dim"]:
        rows, columns = (side // self.config.patch_size_px for side in self.frame_shape_px)
        return tokens.view(len(tokens), -1, rows, columns, tokens.shape[-1])

    def _frame_size_text(self) -> str:
        height, width = self.frame_shape_px
        return f"frame_size_px={height}" if height == width else f"{height}x{width} px"

    def _with_positions(self, positions: Tensor, frame_shape_px: tuple[int, int]) -> "Encoder":
        other = copy.copy(self)
        other._buffers = dict(self._buffers)
        other.positions = positions.to(self.positions)
        other.frame_shape_px = frame_shape_px
        return other
