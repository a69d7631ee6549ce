// What a kernel needs that does the work of many launches: it follows `kernels.h` in the text of such a kernel.
//
// All blocks of the grid run at once. They walk through a table of calls in device memory, in whole numbers of 64 bits:
//
//     0       how many blocks have come to a barrier since the table was made
//     1       number of weights
//     2       groups: so many blocks share out the columns of the weights; the next as many take other rows
//     3 ...   the weights, AB_WEIGHT numbers each
//     ...     calls, all of one length: code, how, arguments; a negative code ends. How: 1 where all blocks must have
//             finished it before the next call begins, and twice a shift: the block that begins, or for a product
//             how far the shares of rows are moved on, so that calls which do not wait for each other do not go to
//             the same blocks
//
// A weight is the right operand of products, f[k, p]. Every block keeps its columns in shared memory from the beginning
// to the end: f[k, columns], zeros from column p on. Numbers of a weight: address, lead, whether it lies transposed, k, p,
// columns of a block (a multiple of 4), and the place of the slice in shared memory. In front of the slices is room for
// AB_PARTS numbers.

#define AB_WEIGHT 7
#define AB_MOST_SPLIT 16
#define AB_PARTS (16 * 257)

#ifndef AB_EMULATED
struct ab_place {
    unsigned x;
};
#define AB_RESIDENT extern "C" __global__ void __launch_bounds__(256, 1)
#define AB_DYNAMIC(memory) extern __shared__ __align__(32) unsigned char memory[];
#define AB_FENCE __threadfence();
#define AB_ADD_ONE(counter) atomicAdd(counter, 1ULL)
#define AB_PAUSE
#endif

template <typename T> struct alignas(4 * sizeof(T)) ab_four {
    T x[4];
};

// Read the next call; if asked, not before every block of the grid has come here, whose writes are then seen. The counter
// is never set back: a barrier is over when it has reached the next multiple of the number of blocks. While the first
// thread waits, others read. The threads of a block have just met.
AB_FUNCTION void ab_next(u64* counter, bool meet, i64* row, const i64* call, i64 words) {
    AB_THREADS {
        for (i64 t = threadIdx.x; t < words + 32; t += blockDim.x)
            if (t >= 32) row[t - 32] = call[t - 32];
        if (meet && threadIdx.x == 0) {
            AB_FENCE
            const u64 blocks = gridDim.x, goal = (AB_ADD_ONE(counter) / blocks + 1) * blocks;
            while (*(volatile u64*)counter < goal) { AB_PAUSE }
            AB_FENCE
        }
    }
    AB_BARRIER
}

// Bring the columns of a weight that belong to a group to shared memory.
template <typename T> AB_FUNCTION void ab_keep(const i64* weight, T* slice, i64 group) {
    const T* from = (const T*)weight[0];
    const i64 lead = weight[1], k = weight[3], p = weight[4], columns = weight[5], first = group * columns;
    const bool flip = weight[2] != 0;
    AB_THREADS for (i64 t = threadIdx.x; t < k * columns; t += blockDim.x) {
        const i64 j = flip ? ab_div(t, k) : t % columns, r = flip ? t - j * k : ab_div(t, columns);
        const i64 column = first + j;
        slice[r * columns + j] = column < p ? from[flip ? column * lead + r : r * lead + column] : T(0);
    }
    AB_BARRIER
}

// Sums of four rows times four columns over summands [from, to).
template <typename T>
AB_FUNCTION void ab_sums(T (&sum)[4][4], const T* const (&x)[4], const T* y, i64 columns, i64 from, i64 to, bool fours) {
    if (fours) {
#pragma unroll 2
        for (i64 k = from; k < to; k += 4) {
            ab_four<T> row[4];
#pragma unroll
            for (int r = 0; r < 4; ++r) row[r] = *(const ab_four<T>*)(x[r] + k);
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const ab_four<T> column = *(const ab_four<T>*)(y + (k + e) * columns);
#pragma unroll
                for (int r = 0; r < 4; ++r)
#pragma unroll
                    for (int j = 0; j < 4; ++j) sum[r][j] += row[r].x[e] * column.x[j];
            }
        }
        return;
    }
#pragma unroll 4
    for (i64 k = from; k < to; ++k) {
        const ab_four<T> column = *(const ab_four<T>*)(y + k * columns);
#pragma unroll
        for (int r = 0; r < 4; ++r)
#pragma unroll
            for (int j = 0; j < 4; ++j) sum[r][j] += x[r][k] * column.x[j];
    }
}

template <typename T> AB_FUNCTION void ab_give(T* c, T value, bool add) { *c = add ? *c + value : value; }

// C = A B, or C += A B: the columns of a group, a share of the n rows. A thread makes four rows times four columns at a
// time; where rows are few, several threads share out the summands, and their sums are put together in order.
template <typename T>
AB_FUNCTION void ab_product(const i64* weight, const T* slice, T* parts, i64 group, i64 share, i64 shares, i64 n,
                            const T* a, i64 lead_a, T* c, i64 lead_c, bool add) {
    const i64 k = weight[3], p = weight[4], columns = weight[5], first = group * columns, across = columns / 4;
    const i64 quads = (n + 3) / 4, top = quads * share / shares, rows = quads * (share + 1) / shares - top;
    if (share >= shares || first >= p || rows == 0) return;
    const i64 units = rows * across, fourths = (k + 3) / 4;
    i64 split = 1;
    while (split < AB_MOST_SPLIT && units * split * 2 <= blockDim.x && split * 4 <= fourths) split *= 2;
    const bool fours = k % 4 == 0 && lead_a % 4 == 0 && (i64)a % (i64)(4 * sizeof(T)) == 0;
    const i64 stride = blockDim.x + 1;
    AB_THREADS for (i64 t = threadIdx.x; t < units * split; t += blockDim.x) {
        const i64 part = ab_div(t, units), unit = t - part * units, down = ab_div(unit, across);
        const i64 row = 4 * (top + down), column = 4 * (unit - down * across);
        const i64 from = 4 * (fourths * part / split), end = 4 * (fourths * (part + 1) / split);
        const T* const x[4] = {a + row * lead_a, a + (row + 1 < n ? row + 1 : row) * lead_a,
                               a + (row + 2 < n ? row + 2 : row) * lead_a, a + (row + 3 < n ? row + 3 : row) * lead_a};
        T sum[4][4] = {};
        ab_sums<T>(sum, x, slice + column, columns, from, end < k ? end : k, fours);
#pragma unroll
        for (int r = 0; r < 4; ++r)
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const i64 to = first + column + j;
                if (split > 1) parts[(4 * r + j) * stride + t] = sum[r][j];
                else if (row + r < n && to < p) ab_give(c + (row + r) * lead_c + to, sum[r][j], add);
            }
    }
    AB_BARRIER
    if (split == 1) return;
    AB_THREADS for (i64 t = threadIdx.x; t < units * 16; t += blockDim.x) {
        const i64 down = ab_div(t, columns), column = t - down * columns, row = 4 * top + down;
        const i64 unit = (down >> 2) * across + (column >> 2), e = 4 * (down & 3) + (column & 3);
        T total = T(0);
        for (i64 part = 0; part < split; ++part) total += parts[e * stride + part * units + unit];
        if (row < n && first + column < p) ab_give(c + row * lead_c + first + column, total, add);
    }
    AB_BARRIER
}
