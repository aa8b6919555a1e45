"""The video encoder: what pre-training is for.

Axes: ``slices`` are tubelets along time, ``rows`` and ``columns`` those of a frame; ``picked`` is
the number of visible tokens of each clip; ``blocks`` and ``halves`` are those of the transformer.
"""

import copy

from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.patches import PatchEmbed, cut_tubelets, pick_tokens, position_table
from sigma_pipeline.model.transformer import Block, layer_norm, run_blocks


class Encoder(nn.Module):
    """Vision transformer over tubelets, without a class token."""

    positions: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.encoder.embed_dim
        self.patch_embed = PatchEmbed(dim, config.tubelet_frames, config.patch_size_px)
        self.blocks = nn.ModuleList(Block(config.encoder) for _ in range(config.encoder.depth))
        self.norm = layer_norm(dim)
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
        if visible is None:
            tokens = self.patch_embed(tubelets) + self.positions[: tubelets.shape[1]]
        else:
            embedded = self.patch_embed(pick_tokens(tubelets, visible))
            tokens = embedded + self.positions[visible]
        tokens = run_blocks(
            self.blocks,
            tokens,
            scales=scales,
            is_checkpointed=self.config.execution.activation_checkpointing,
        )
        features: Tensor = self.norm(tokens)
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
        other = copy.copy(self)
        other._buffers = dict(self._buffers)
        other.config = config
        other.positions = position_table(config.num_tokens, config.encoder.embed_dim).to(
            self.positions
        )
        return other

    def encode(
        self, clip: UInt8[Tensor, "batch channels frames height width"]
    ) -> Float[Tensor, "batch slices rows columns dim"]:
        """Features of whole clips, with the final norm, for evaluation and fine-tuning.

        Clips may be shorter than those of pre-training: positions of a short clip are the first
        ones of a long clip.

        Raises:
            ValueError: the frames are of another size, or do not make 1 to ``num_slices`` slices.
        """
        config = self.config
        num_frames, height, width = clip.shape[2:]
        if (height, width) != (config.frame_size_px, config.frame_size_px):
            raise ValueError(
                f"frames are {height}x{width} px; this encoder was built for "
                f"frame_size_px={config.frame_size_px}"
            )
        if num_frames % config.tubelet_frames or not 0 < num_frames <= config.num_frames:
            raise ValueError(
                f"clips have {num_frames} frames; this encoder takes multiples of "
                f"tubelet_frames={config.tubelet_frames} up to num_frames={config.num_frames}"
            )
        tubelets = cut_tubelets(clip, config.tubelet_frames, config.patch_size_px)
        side = config.frame_size_px // config.patch_size_px
        features: Tensor = self(tubelets)
        return features.view(len(clip), -1, side, side, config.encoder.embed_dim)
