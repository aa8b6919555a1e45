"""The decoder: predicts features of hidden tubelets; thrown away after pre-training."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.patches import position_table
from sigma_pipeline.model.transformer import Block, layer_norm, run_blocks, xavier_linear


class Decoder(nn.Module):
    """Shallow transformer over visible tokens and placeholders of the hidden ones."""

    positions: Tensor

    def __init__(self, config: ModelConfig, out_dim: int) -> None:
        super().__init__()
        self.config = config
        dim = config.decoder.embed_dim
        self.blocks = nn.ModuleList(Block(config.decoder) for _ in range(config.decoder.depth))
        self.norm = layer_norm(dim)
        self.head = xavier_linear(dim, out_dim)
        self.register_buffer("positions", position_table(config.num_tokens, dim), persistent=False)

    def forward(
        self,
        features: Float[Tensor, "batch visible dim"],
        mask_token: Float[Tensor, "1 1 dim"],
        visible: Int[Tensor, "batch visible"],
        hidden: Int[Tensor, "batch hidden"],
    ) -> Float[Tensor, "batch hidden out_dim"]:
        """Predictions for the hidden tokens, in the order of ``hidden``.

        Args:
            features: visible tokens, already in the decoder's width.
            mask_token: stands for every hidden token; only its position tells it from others.
            visible: token numbers of ``features``.
            hidden: token numbers to predict.
        """
        known = features + self.positions[visible]
        asked = mask_token + self.positions[hidden]
        tokens = torch.cat((known, asked), dim=1)
        is_checkpointed = self.config.execution.activation_checkpointing
        tokens = run_blocks(self.blocks, tokens, is_checkpointed=is_checkpointed)
        predictions: Tensor = self.head(self.norm(tokens[:, visible.shape[1] :]))
        return predictions
