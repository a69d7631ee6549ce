"""LSTM over packed sequences by hand in plain NumPy, one direction or both.

What makes it fast, in order of gain:

* rows are packed by step (`benchmarks.sentences.pack`): no padding, and the operands of a step are one block;
* input projections of all steps in one product, into the memory where the gates will stand;
* gradients of weights and of inputs once, as products over all steps;
* both directions advance together: the second one reads the sequences mirrored, so that it has the same packing, and
  all elementwise work of a step is done on both at once;
* forward products read a copy of the weights transposed once per step (few rows times a transposed matrix is slow);
* sigmoid is tanh of half the argument, the half is in the copy: one tanh serves all gates, which stand as i, f, o, g.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.sentences import Packing


class Room:
    """Memory kept from step to step, by name. Its content is whatever was there."""

    def __init__(self) -> None:
        self._memory: dict[str, np.ndarray] = {}

    def __call__(self, name: str, *shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        if name not in self._memory or self._memory[name].size < size:
            self._memory[name] = np.empty(size + size // 4, np.float32)
        return self._memory[name][:size].reshape(shape)


def gates_last(weight: np.ndarray) -> np.ndarray:
    """Rows in the order i, f, g, o → i, f, o, g; and back."""
    dim = len(weight) // 4
    return np.concatenate([weight[: 2 * dim], weight[3 * dim :], weight[2 * dim : 3 * dim]])


class PackedLSTM:
    """The recursion. Weights and gradients are arrays of the program's, with gates in the order i, f, o, g.

    names: of the directions: their weights are `NAME_ih` (4 H, n_in), `NAME_hh` (4 H, H) and `NAME_b` (4 H,)
    """

    def __init__(
        self, names: Sequence[str], weights: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray]
    ) -> None:
        self.names, self.weights, self.gradients = names, weights, gradients
        self.n_directions, self.dim = len(names), weights[names[0] + "_hh"].shape[1]
        self.room = Room()
        self.half = np.full(4 * self.dim, 0.5, np.float32)
        self.half[3 * self.dim :] = 1.0

    def forward(self, packing: Packing, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """inputs: (n, n_in), packed, of each direction; the second one mirrored → hidden states (n, directions, H)."""
        dim, ways, n = self.dim, self.n_directions, packing.n_rows
        self.packing, self.inputs = packing, inputs
        self.gates = gates = self.room("gates", n, ways, 4 * dim)
        bias = self.room("bias", ways, 4 * dim)
        hidden_w = []
        for way, name in enumerate(self.names):
            np.matmul(inputs[way], self._transposed(name + "_ih"), out=gates[:, way])
            np.multiply(self.weights[name + "_b"], self.half, out=bias[way])
            hidden_w.append(self._transposed(name + "_hh"))
        self.states, self.cells, self.tanh_cells = (self.room(name, n, ways, dim) for name in ("h", "c", "tanh c"))
        product = self.room("product", packing.bounds[1], ways, 4 * dim)
        before = 0
        for start, stop in zip(packing.bounds[:-1], packing.bounds[1:], strict=True):
            rows = stop - start
            z, c = gates[start:stop], self.cells[start:stop]
            z += bias
            if start:
                for way in range(ways):
                    np.matmul(self.states[before : before + rows, way], hidden_w[way], out=product[:rows, way])
                z += product[:rows]
            np.tanh(z, out=z)
            sigmoids = z[:, :, : 3 * dim]
            sigmoids *= 0.5
            sigmoids += 0.5
            np.multiply(z[:, :, :dim], z[:, :, 3 * dim :], out=c)
            if start:
                kept = product[:rows, :, :dim]
                c += np.multiply(z[:, :, dim : 2 * dim], self.cells[before : before + rows], out=kept)
            np.tanh(c, out=self.tanh_cells[start:stop])
            np.multiply(z[:, :, 2 * dim : 3 * dim], self.tanh_cells[start:stop], out=self.states[start:stop])
            before = start
        return self.states

    def reverse(self, d_states: np.ndarray, d_inputs: Sequence[np.ndarray]) -> None:
        """d_states: gradients of the hidden states, used up. Fills the gradients of the weights, and `d_inputs`."""
        dim, ways, bounds = self.dim, self.n_directions, self.packing.bounds
        dz = self.room("d gates", *self.gates.shape)
        dc = self.room("d c", bounds[1], ways, dim)
        scratch = self.room("scratch", bounds[1], ways, dim)
        dc[:] = 0.0
        hidden_w = [self.weights[name + "_hh"] for name in self.names]
        for step in range(len(bounds) - 2, -1, -1):
            start, stop = bounds[step], bounds[step + 1]
            rows = stop - start
            dh = d_states[start:stop]
            self._step_reverse(start, stop, bounds[step - 1] if step else -1, dh, dc[:rows], scratch[:rows])
            if step:
                product = scratch[:rows]
                for way in range(ways):
                    np.matmul(dz[start:stop, way], hidden_w[way], out=product[:, way])
                d_states[bounds[step - 1] : bounds[step - 1] + rows] += product
        first = bounds[1]
        previous = self._previous_states()
        ones = np.ones(self.packing.n_rows, np.float32)
        for way, name in enumerate(self.names):
            np.matmul(dz[:, way].T, self.inputs[way], out=self.gradients[name + "_ih"])
            np.matmul(dz[first:, way].T, previous[:, way], out=self.gradients[name + "_hh"])
            np.matmul(ones, dz[:, way], out=self.gradients[name + "_b"])
            np.matmul(dz[:, way], self.weights[name + "_ih"], out=d_inputs[way])

    def _step_reverse(
        self, start: int, stop: int, before: int, dh: np.ndarray, dc: np.ndarray, scratch: np.ndarray
    ) -> None:
        """Gradients of the gates of one step; `dc` becomes that of the step before, whose rows begin at `before`."""
        dim = self.dim
        z, d, tanh_c = self.gates[start:stop], self.room("d gates", *self.gates.shape)[start:stop], self.tanh_cells
        i, f, o, g = (z[:, :, k * dim : (k + 1) * dim] for k in range(4))
        di, df, do, dg = (d[:, :, k * dim : (k + 1) * dim] for k in range(4))
        np.multiply(tanh_c[start:stop], tanh_c[start:stop], out=scratch)
        np.subtract(1.0, scratch, out=scratch)
        scratch *= o
        scratch *= dh
        dc += scratch
        np.multiply(z, z, out=d)
        np.subtract(z[:, :, : 3 * dim], d[:, :, : 3 * dim], out=d[:, :, : 3 * dim])
        np.subtract(1.0, dg, out=dg)
        di *= np.multiply(dc, g, out=scratch)
        do *= np.multiply(dh, tanh_c[start:stop], out=scratch)
        dg *= np.multiply(dc, i, out=scratch)
        if before >= 0:
            df *= np.multiply(dc, self.cells[before : before + stop - start], out=scratch)
            dc *= f
        else:
            df[:] = 0.0

    def _previous_states(self) -> np.ndarray:
        """Of all rows after the first step, the hidden states of the step before."""
        bounds = self.packing.bounds
        previous = self.room("previous", self.packing.n_rows - bounds[1], self.n_directions, self.dim)
        for before, start, stop in zip(bounds[:-2], bounds[1:-1], bounds[2:], strict=True):
            previous[start - bounds[1] : stop - bounds[1]] = self.states[before : before + stop - start]
        return previous

    def _transposed(self, name: str) -> np.ndarray:
        """(weight * half[:, None]).T, in narrow bands: a plain copy of a transposed array misses the cache."""
        weight = self.weights[name]
        out = self.room(name, *weight.T.shape)
        for a in range(0, len(weight), 16):
            np.copyto(out[:, a : a + 16], (weight[a : a + 16] * self.half[a : a + 16, None]).T)
        return out
