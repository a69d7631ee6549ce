"""Layers and stacks of transformers (Vaswani et al., "Attention is all you need", 2017)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import autobatch as ab

from ..base.errors import message
from .containers import ModuleList
from .dropout import Dropout
from .layer_norm import LayerNorm
from .linear import Linear
from .module import Module
from .multi_head_attention import MultiHeadAttention

Activation = str | Callable[[ab.Tensor], ab.Tensor]


class _TransformerLayer(Module):
    """What layers of encoders and decoders have in common: the feed-forward part, and where norms stand."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        norm_first: bool = False,
        bias: bool = True,
    ) -> None:
        if isinstance(activation, str) and activation not in ("relu", "gelu"):
            what = f"{type(self).__name__}: no such activation"
            raise ValueError(message(what, expected="'relu', 'gelu' or a function", got=repr(activation)))
        self.self_attn = MultiHeadAttention(d_model, nhead, bias)
        self._more_attention(d_model, nhead, bias)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        for k in range(1, self.n_parts + 1):
            setattr(self, f"norm{k}", LayerNorm(d_model, layer_norm_eps, bias=bias))
        self.dropout = Dropout(dropout)
        self.activation = {"relu": ab.relu, "gelu": ab.gelu}[activation] if isinstance(activation, str) else activation
        self.norm_first = norm_first

    n_parts = 2

    def _more_attention(self, d_model: int, nhead: int, bias: bool) -> None:
        """What comes between the attention to itself and the feed-forward part."""

    def _around(self, k: int, x: ab.Tensor, part: Callable[[ab.Tensor], ab.Tensor]) -> ab.Tensor:
        """One part with its norm and the sum around it."""
        norm: LayerNorm = getattr(self, f"norm{k}")
        if self.norm_first:
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))

    def _feed_forward(self, x: ab.Tensor) -> ab.Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class TransformerEncoderLayer(_TransformerLayer):
    """Attention of a sequence to itself, then two linear maps of each row; each part with a sum and a norm around it.

    Arguments:
        d_model: width of x.
        nhead: number of heads, a divisor of `d_model`.
        dim_feedforward: width between the linear maps.
        dropout: probability with which an element of the result of a part, and of what is between the linear maps, is
            dropped in training. PyTorch drops attention weights, too; here they are never all in memory.
        activation: "relu", "gelu" or a function.
        layer_norm_eps: added to the variance in the norms.
        norm_first: whether norms stand before the parts rather than after the sums.
        bias: whether linear maps and norms have biases.

    Parameters and keys as in `torch.nn.TransformerEncoderLayer`: `self_attn.*`, `linear1.*`, `linear2.*`, `norm1.*`,
    `norm2.*`. There is no axis of the batch, and a boolean mask says what may be attended to.

    >>> layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16)
    >>> layer(ab.ones((5, 8))).shape
    (5, 8)
    """

    def forward(self, src: ab.Tensor, mask: ab.TensorLike | None = None, causal: bool = False) -> ab.Tensor:
        """src: f[n, d_model] → the same; `mask` and `causal` are as in `ab.attention`."""
        x = self._around(1, src, lambda y: self.self_attn(y, mask=mask, causal=causal))
        return self._around(2, x, self._feed_forward)


class TransformerDecoderLayer(_TransformerLayer):
    """As `TransformerEncoderLayer`, with attention to the rows of an encoder between the two parts.

    Arguments: as `TransformerEncoderLayer`.

    Parameters and keys as in `torch.nn.TransformerDecoderLayer`: `self_attn.*`, `multihead_attn.*`, `linear1.*`,
    `linear2.*`, `norm1.*`, `norm2.*`, `norm3.*`.

    >>> layer = nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16)
    >>> layer(ab.ones((5, 8)), ab.ones((3, 8)), causal=True).shape
    (5, 8)
    """

    n_parts = 3

    def _more_attention(self, d_model: int, nhead: int, bias: bool) -> None:
        self.multihead_attn = MultiHeadAttention(d_model, nhead, bias)

    def forward(
        self,
        tgt: ab.Tensor,
        memory: ab.Tensor,
        mask: ab.TensorLike | None = None,
        memory_mask: ab.TensorLike | None = None,
        causal: bool = False,
    ) -> ab.Tensor:
        """tgt: f[n, d_model], memory: f[m, d_model] → f[n, d_model].

        `mask` and `causal` are those of the attention of `tgt` to itself, `memory_mask` that of the other, as in
        `ab.attention`.
        """
        x = self._around(1, tgt, lambda y: self.self_attn(y, mask=mask, causal=causal))
        x = self._around(2, x, lambda y: self.multihead_attn(y, memory, mask=memory_mask))
        return self._around(3, x, self._feed_forward)


class _Stack(Module):
    """A layer, copied."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        if num_layers < 1:
            what = f"{type(self).__name__}: there are no layers"
            raise ValueError(message(what, expected="num_layers >= 1", got=str(num_layers)))
        self.layers = ModuleList(copy.deepcopy(layer) for _ in range(num_layers))
        self.norm = norm


class TransformerEncoder(_Stack):
    """Layers of an encoder, one after the other.

    Arguments:
        encoder_layer: copied for each layer, as PyTorch does; all begin with the same numbers.
        num_layers: how many; less than one raises ValueError.
        norm: a module for what comes out.

    Parameters and keys as in `torch.nn.TransformerEncoder`: `layers.{k}.*`, `norm.*`.

    >>> model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, nn.LayerNorm(8))
    >>> model(ab.ones((5, 8))).shape
    (5, 8)
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(self, src: ab.Tensor, mask: ab.TensorLike | None = None, causal: bool = False) -> ab.Tensor:
        """src: f[n, d_model] → the same; as the layer's."""
        for layer in self.layers:
            src = layer(src, mask, causal)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(_Stack):
    """Layers of a decoder, copies of `decoder_layer`; the other arguments and names are as in `TransformerEncoder`.

    >>> model = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 2)
    >>> model(ab.ones((5, 8)), ab.ones((3, 8)), causal=True).shape
    (5, 8)
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: ab.Tensor,
        memory: ab.Tensor,
        mask: ab.TensorLike | None = None,
        memory_mask: ab.TensorLike | None = None,
        causal: bool = False,
    ) -> ab.Tensor:
        """tgt: f[n, d_model], memory: f[m, d_model] → f[n, d_model]; as the layer's."""
        for layer in self.layers:
            tgt = layer(tgt, memory, mask, memory_mask, causal)
        return tgt if self.norm is None else self.norm(tgt)
