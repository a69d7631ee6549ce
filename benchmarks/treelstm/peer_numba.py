"""The NumPy program with its elementwise work in loops compiled by Numba: products, plan and memory are the same.

What makes such a loop vectorise: one slice per operand taken before the inner loop, all stores last, no check for
division by zero (`error_model="numpy"`), and a tanh made of arithmetic alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from benchmarks.adam import BETA1, BETA2, EPSILON, LEARNING_RATE
from benchmarks.treelstm.peer_numpy import NumpyTreeLSTM, Rows

Array = np.ndarray
_compile = njit(error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz", "afn"}, boundscheck=False)

_ONE, _HALF, _BOUND = np.float32(1.0), np.float32(0.5), np.float32(7.9)
# tanh(x) = x P(x²) / Q(x²) on [-7.9, 7.9], fitted for least relative error (6e-9 before rounding); 1 in float32 beyond.
_P = tuple(map(np.float32, (9.99999994e-01, 1.34506210e-01, 3.57899250e-03, 2.20232528e-05, 1.54279832e-08)))
_Q = tuple(map(np.float32, (1.0, 4.67839490e-01, 2.61922398e-02, 3.42365132e-04, 8.59878442e-07)))


@_compile
def rational_tanh(x: np.float32) -> np.float32:
    """tanh with an absolute error below 5e-7, for float32."""
    x = min(max(x, -_BOUND), _BOUND)
    y = x * x
    above = x * (_P[0] + y * (_P[1] + y * (_P[2] + y * (_P[3] + y * _P[4]))))
    return above / (_Q[0] + y * (_Q[1] + y * (_Q[2] + y * (_Q[3] + y * _Q[4]))))


@_compile
def _transpose(weight: Array, scale: Array, out: Array) -> None:
    band = np.empty((16, weight.shape[1]), np.float32)  # of rows: 16 columns of the result are one line of the cache
    for first in range(0, len(weight), 16):
        for row in range(16):
            for k in range(weight.shape[1]):
                band[row, k] = weight[first + row, k] * scale[first + row]
        for k in range(weight.shape[1]):
            out_row = out[k, first : first + 16]
            for row in range(16):
                out_row[row] = band[row, k]


@_compile
def _leaf_forward(gates: Array, bias: Array, slot_of: Array, c_slots: Array, h_slots: Array, tanh_c: Array) -> None:
    dim = c_slots.shape[1]
    u_b, i_b, o_b = bias[:dim], bias[dim : 2 * dim], bias[2 * dim :]
    for row in range(len(gates)):
        u_row, i_row, o_row = gates[row, :dim], gates[row, dim : 2 * dim], gates[row, 2 * dim :]
        c_row, h_row, t_row = c_slots[slot_of[row]], h_slots[slot_of[row]], tanh_c[row]
        for k in range(dim):
            u = rational_tanh(u_row[k] + u_b[k])
            i = _HALF + _HALF * rational_tanh(i_row[k] + i_b[k])
            o = _HALF + _HALF * rational_tanh(o_row[k] + o_b[k])
            c = i * u
            t = rational_tanh(c)
            u_row[k], i_row[k], o_row[k] = u, i, o
            c_row[k], h_row[k], t_row[k] = c, o * t, t


@_compile
def _inner_forward(
    gates: Array, bias: Array, c_pairs: Array, slot_of: Array, c_slots: Array, h_slots: Array, tanh_c: Array
) -> None:
    dim = c_slots.shape[1]
    f1_b, u_b, i_b = bias[:dim], bias[dim : 2 * dim], bias[2 * dim : 3 * dim]
    o_b, f2_b = bias[3 * dim : 4 * dim], bias[4 * dim :]
    for row in range(len(gates)):
        f1_row, u_row, i_row = gates[row, :dim], gates[row, dim : 2 * dim], gates[row, 2 * dim : 3 * dim]
        o_row, f2_row = gates[row, 3 * dim : 4 * dim], gates[row, 4 * dim :]
        c1_row, c2_row = c_pairs[row, :dim], c_pairs[row, dim:]
        c_row, h_row, t_row = c_slots[slot_of[row]], h_slots[slot_of[row]], tanh_c[row]
        for k in range(dim):
            f1 = _HALF + _HALF * rational_tanh(f1_row[k] + f1_b[k])
            u = rational_tanh(u_row[k] + u_b[k])
            i = _HALF + _HALF * rational_tanh(i_row[k] + i_b[k])
            o = _HALF + _HALF * rational_tanh(o_row[k] + o_b[k])
            f2 = _HALF + _HALF * rational_tanh(f2_row[k] + f2_b[k])
            c = i * u + f1 * c1_row[k] + f2 * c2_row[k]
            t = rational_tanh(c)
            f1_row[k], u_row[k], i_row[k], o_row[k], f2_row[k] = f1, u, i, o, f2
            c_row[k], h_row[k], t_row[k] = c, o * t, t


@_compile
def _inner_reverse(
    gates: Array,
    d_gates: Array,
    c_pairs: Array,
    dc_pairs: Array,
    slot_of: Array,
    dc_slots: Array,
    dh_slots: Array,
    tanh_c: Array,
) -> None:
    dim = dc_slots.shape[1]
    for row in range(len(gates)):
        gate, d = gates[row], d_gates[row]
        f1_row, u_row, i_row = gate[:dim], gate[dim : 2 * dim], gate[2 * dim : 3 * dim]
        o_row, f2_row = gate[3 * dim : 4 * dim], gate[4 * dim :]
        d_f1, d_u, d_i, d_o, d_f2 = d[:dim], d[dim : 2 * dim], d[2 * dim : 3 * dim], d[3 * dim : 4 * dim], d[4 * dim :]
        c1_row, c2_row, d_c1, d_c2 = c_pairs[row, :dim], c_pairs[row, dim:], dc_pairs[row, :dim], dc_pairs[row, dim:]
        dc_row, dh_row, t_row = dc_slots[slot_of[row]], dh_slots[slot_of[row]], tanh_c[row]
        for k in range(dim):
            f1, u, i, o, f2, t, dh = f1_row[k], u_row[k], i_row[k], o_row[k], f2_row[k], t_row[k], dh_row[k]
            c1, c2 = c1_row[k], c2_row[k]
            dc = dc_row[k] + dh * o * (_ONE - t * t)
            d_f1[k] = dc * c1 * f1 * (_ONE - f1)
            d_u[k] = dc * i * (_ONE - u * u)
            d_i[k] = dc * u * i * (_ONE - i)
            d_o[k] = dh * t * o * (_ONE - o)
            d_f2[k] = dc * c2 * f2 * (_ONE - f2)
            d_c1[k], d_c2[k] = dc * f1, dc * f2


@_compile
def _leaf_reverse(
    gates: Array, d_gates: Array, slot_of: Array, dc_slots: Array, dh_slots: Array, tanh_c: Array
) -> None:
    dim = dc_slots.shape[1]
    for row in range(len(gates)):
        u_row, i_row, o_row = gates[row, :dim], gates[row, dim : 2 * dim], gates[row, 2 * dim :]
        d_u, d_i, d_o = d_gates[row, :dim], d_gates[row, dim : 2 * dim], d_gates[row, 2 * dim :]
        dc_row, dh_row, t_row = dc_slots[slot_of[row]], dh_slots[slot_of[row]], tanh_c[row]
        for k in range(dim):
            u, i, o, t, dh = u_row[k], i_row[k], o_row[k], t_row[k], dh_row[k]
            dc = dc_row[k] + dh * o * (_ONE - t * t)
            d_u[k] = dc * i * (_ONE - u * u)
            d_i[k] = dc * u * i * (_ONE - i)
            d_o[k] = dh * t * o * (_ONE - o)


@_compile
def _sum_equal_words(order: Array, starts: Array, d_words: Array, total: Array) -> None:
    for word in range(len(starts)):
        stop = starts[word + 1] if word + 1 < len(starts) else len(order)
        total_row = total[word]
        total_row[:] = d_words[order[starts[word]]]
        for position in range(starts[word] + 1, stop):
            d_row = d_words[order[position]]
            for k in range(len(total_row)):
                total_row[k] += d_row[k]


@_compile
def _adam(
    value: Array,
    gradient: Array,
    moment1: Array,
    moment2: Array,
    keep1: np.float32,
    keep2: np.float32,
    rate: np.float32,
    scale2: np.float32,
    epsilon: np.float32,
) -> None:
    for k in range(len(value)):
        g = gradient[k]
        m = keep1 * moment1[k] + (_ONE - keep1) * g
        v = keep2 * moment2[k] + (_ONE - keep2) * g * g
        x = value[k] - rate * m / (np.sqrt(v * scale2) + epsilon)
        moment1[k], moment2[k], value[k] = m, v, x


@_compile
def _adam_rows(
    rows: Array,
    table: Array,
    gradients: Array,
    moment1: Array,
    moment2: Array,
    keep1: np.float32,
    keep2: np.float32,
    rate: np.float32,
    scale2: np.float32,
    epsilon: np.float32,
) -> None:
    for k in range(len(rows)):
        row = rows[k]
        _adam(table[row], gradients[k], moment1[row], moment2[row], keep1, keep2, rate, scale2, epsilon)


class NumbaTreeLSTM(NumpyTreeLSTM):
    """The NumPy program with compiled loops."""

    name = "numpy + numba loops"

    def _transpose(self, weight: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
        _transpose(weight, scale, out)

    def _leaf_forward(self, rows: Rows, bias: np.ndarray) -> None:
        _leaf_forward(rows.leaf_gates, bias, rows.slot_of, rows.c, rows.h, rows.tanh_c)

    def _inner_forward(self, rows: Rows, first: int, last: int, bias: np.ndarray) -> None:
        nodes = slice(len(rows.leaf_gates) + first, len(rows.leaf_gates) + last)
        gates, c_pairs = rows.gates[first:last], rows.c_pairs[first:last]
        _inner_forward(gates, bias, c_pairs, rows.slot_of[nodes], rows.c, rows.h, rows.tanh_c[nodes])

    def _inner_reverse(self, rows: Rows, first: int, last: int) -> None:
        nodes, level = slice(len(rows.leaf_gates) + first, len(rows.leaf_gates) + last), slice(first, last)
        gates, d_gates = rows.gates[level], rows.d_gates[level]
        c_pairs, dc_pairs = rows.c_pairs[level], rows.dc_pairs[level]
        _inner_reverse(gates, d_gates, c_pairs, dc_pairs, rows.slot_of[nodes], rows.dc, rows.dh, rows.tanh_c[nodes])

    def _leaf_reverse(self, rows: Rows) -> None:
        _leaf_reverse(rows.leaf_gates, rows.d_leaf_gates, rows.slot_of, rows.dc, rows.dh, rows.tanh_c)

    def _sum_equal_words(self, order: np.ndarray, starts: np.ndarray, d_words: np.ndarray) -> np.ndarray:
        total = np.empty((len(starts), d_words.shape[1]), np.float32)
        _sum_equal_words(order, starts, d_words, total)
        return total

    def _update(self, words: np.ndarray, d_words: np.ndarray) -> None:
        self.n_steps += 1
        rate = np.float32(LEARNING_RATE / (1.0 - BETA1**self.n_steps))
        scale2 = np.float32(1.0 / (1.0 - BETA2**self.n_steps))
        numbers = np.float32(BETA1), np.float32(BETA2), rate, scale2, np.float32(EPSILON)
        _adam(self.vector, self.gradient, self.moment1, self.moment2, *numbers)
        _adam_rows(words, self.table, d_words, self.table_moment1, self.table_moment2, *numbers)
