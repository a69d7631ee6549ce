"""Convolution over a sequence."""

from __future__ import annotations

import autobatch as ab

from . import init
from .module import Module


class Conv1d(Module):
    """`autobatch.conv1d` with a weight and a bias of its own: rows are time, x: f[n, in_channels], of any length n.

    PyTorch has one example as (channels, n): `nn.Conv1d(…)(x)` here is `torch.nn.Conv1d(…)(x.T).T` there.

    Arguments:
        in_channels: width of x.
        out_channels: width of the result.
        kernel_size: rows of a window.
        stride, padding, dilation: as in `autobatch.conv1d`.
        bias: whether there is one; `self.bias` is None if not.

    Parameters and keys as in `torch.nn.Conv1d`: `weight: f[out_channels, in_channels, kernel_size]`,
    `bias: f[out_channels]`, both drawn from U(−1/√k, 1/√k) with k = in_channels · kernel_size.

    >>> nn.Conv1d(2, 3, kernel_size=3, padding=1)(ab.ones((5, 2))).shape
    (5, 3)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | str = 0,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        n_inputs = in_channels * kernel_size
        self.weight = init.uniform_by_width((out_channels, in_channels, kernel_size), n_inputs)
        self.bias = init.uniform_by_width((out_channels,), n_inputs) if bias else None

    def forward(self, x: ab.TensorLike) -> ab.Tensor:
        """x: f[n, in_channels] → f[m, out_channels]."""
        return ab.conv1d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding!r}, dilation={self.dilation}, bias={self.bias is not None}"
        )
