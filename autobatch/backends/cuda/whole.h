// Functions of a whole vector or matrix, each run by one thread: what `ops.sorting` and `ops.decompositions` declare.
// Operands and results are row-major; `w` is room for as many numbers as operands and result have together.

// Whether element i comes before element j: the smaller, NaN last, of equal ones the first.
template <typename T> AB_FUNCTION bool ab_before(const T* x, i64 i, i64 j) {
    const bool i_nan = x[i] != x[i], j_nan = x[j] != x[j];
    if (i_nan || j_nan) return i_nan == j_nan ? i < j : j_nan;
    return x[i] == x[j] ? i < j : x[i] < x[j];
}

// Heapsort of the places.
template <typename T> AB_FUNCTION void ab_order(const T* x, i64* y, T* w, i64 n) {
    for (i64 i = 0; i < n; ++i) y[i] = i;
    i64 first = n / 2, end = n;
    while (end > 1) {
        if (first > 0) {
            --first;
        } else {
            --end;
            const i64 last = y[end];
            y[end] = y[0];
            y[0] = last;
        }
        const i64 moved = y[first];
        i64 hole = first;
        for (i64 child = 2 * hole + 1; child < end; child = 2 * hole + 1) {
            if (child + 1 < end && ab_before(x, y[child], y[child + 1])) ++child;
            if (!ab_before(x, moved, y[child])) break;
            y[hole] = y[child];
            hole = child;
        }
        y[hole] = moved;
    }
}

// Gaussian elimination with row exchanges on a f[n, n] and, beside it, b f[n, k]: the sign of the exchanges, 0 where a
// pivot is 0.
template <typename T> AB_FUNCTION T ab_eliminate(T* a, T* b, i64 n, i64 k) {
    T sign = T(1);
    for (i64 c = 0; c < n; ++c) {
        i64 pivot = c;
        for (i64 i = c + 1; i < n; ++i)
            if (ab_abs(a[i * n + c]) > ab_abs(a[pivot * n + c])) pivot = i;
        if (a[pivot * n + c] == T(0)) return T(0);
        if (pivot != c) {
            sign = -sign;
            for (i64 j = 0; j < n; ++j) {
                const T x = a[c * n + j];
                a[c * n + j] = a[pivot * n + j];
                a[pivot * n + j] = x;
            }
            for (i64 j = 0; j < k; ++j) {
                const T x = b[c * k + j];
                b[c * k + j] = b[pivot * k + j];
                b[pivot * k + j] = x;
            }
        }
        for (i64 i = c + 1; i < n; ++i) {
            const T f = a[i * n + c] / a[c * n + c];
            for (i64 j = c + 1; j < n; ++j) a[i * n + j] -= f * a[c * n + j];
            for (i64 j = 0; j < k; ++j) b[i * k + j] -= f * b[c * k + j];
        }
    }
    return sign;
}

template <typename T> AB_FUNCTION void ab_solve(const T* a, const T* b, T* y, T* w, i64 n, i64, i64, i64 k) {
    for (i64 i = 0; i < n * n; ++i) w[i] = a[i];
    for (i64 i = 0; i < n * k; ++i) y[i] = b[i];
    const bool is_regular = ab_eliminate(w, y, n, k) != T(0);
    for (i64 j = 0; j < k; ++j)
        for (i64 i = n - 1; i >= 0; --i) {
            T x = y[i * k + j];
            for (i64 c = i + 1; c < n; ++c) x -= w[i * n + c] * y[c * k + j];
            y[i * k + j] = x / w[i * n + i];
        }
    if (!is_regular)
        for (i64 i = 0; i < n * k; ++i) y[i] = T(AB_NAN);
}

template <typename T> AB_FUNCTION void ab_slogdet(const T* x, T* y, T* w, i64 n, i64) {
    for (i64 i = 0; i < n * n; ++i) w[i] = x[i];
    y[0] = ab_eliminate(w, y, n, 0);
    y[1] = T(0);
    if (y[0] == T(0)) y[1] = T(-AB_INFINITY);
    for (i64 i = 0; i < n && y[0] != T(0); ++i) {
        if (w[i * n + i] < T(0)) y[0] = -y[0];
        y[1] += ab_log(ab_abs(w[i * n + i]));
    }
}

template <typename T> AB_FUNCTION void ab_cholesky(const T* x, T* y, T* w, i64 n, i64) {
    bool is_definite = true;
    for (i64 i = 0; i < n; ++i)
        for (i64 j = 0; j < n; ++j) {
            T rest = x[i * n + j];
            if (j > i) {
                y[i * n + j] = T(0);
                continue;
            }
            for (i64 c = 0; c < j; ++c) rest -= y[i * n + c] * y[j * n + c];
            if (i == j) is_definite = is_definite && rest > T(0);
            y[i * n + j] = i == j ? ab_sqrt(rest) : rest / y[j * n + j];
        }
    if (!is_definite)
        for (i64 i = 0; i < n * n; ++i) y[i] = T(AB_NAN);
}

// Householder reflections; those of the columns so far are applied to the columns of the identity.
template <typename T> AB_FUNCTION void ab_qr(const T* x, T* y, T* w, i64 m, i64 n) {
    T *q = y, *r = y + m * n, *last = w + m * n;
    for (i64 i = 0; i < m * n; ++i) w[i] = x[i];
    for (i64 i = 0; i < n * n; ++i) r[i] = T(0);
    for (i64 c = 0; c < n; ++c) {  // column c of w becomes the vector of a reflection I - v v^T
        T square = T(0);
        for (i64 i = c + 1; i < m; ++i) square += w[i * n + c] * w[i * n + c];
        const T top = w[c * n + c];
        T made = top;
        last[c] = T(0);
        if (square > T(0)) {
            const T size = ab_sqrt(top * top + square);
            made = top > T(0) ? -size : size;
            last[c] = T(1) / ab_sqrt(size * (size + ab_abs(top)));
        }
        w[c * n + c] = top - made;
        for (i64 i = c; i < m; ++i) w[i * n + c] *= last[c];
        for (i64 j = c + 1; j < n; ++j) {
            T inner = T(0);
            for (i64 i = c; i < m; ++i) inner += w[i * n + c] * w[i * n + j];
            for (i64 i = c; i < m; ++i) w[i * n + j] -= inner * w[i * n + c];
        }
        r[c * n + c] = made;
        for (i64 i = 0; i < c; ++i) r[i * n + c] = w[i * n + c];
    }
    for (i64 j = 0; j < n; ++j) {
        for (i64 i = 0; i < m; ++i) q[i * n + j] = T(i == j);
        for (i64 c = n - 1; c >= 0; --c) {
            T inner = T(0);
            for (i64 i = c; i < m; ++i) inner += w[i * n + c] * q[i * n + j];
            for (i64 i = c; i < m; ++i) q[i * n + j] -= inner * w[i * n + c];
        }
    }
}

// Columns of v f[n, k], a row of it `step` numbers, in the order of `numbers`, the smallest first: by exchanges; with
// them those of u f[m, k].
template <typename T>
AB_FUNCTION void ab_sort_columns(T* numbers, i64 apart, T* v, i64 n, T* u, i64 m, i64 step, i64 k, bool falling) {
    for (i64 c = 0; c < k; ++c) {
        i64 best = c;
        for (i64 j = c + 1; j < k; ++j)
            if (falling ? numbers[j * apart] > numbers[best * apart] : numbers[j * apart] < numbers[best * apart])
                best = j;
        const T number = numbers[c * apart];
        numbers[c * apart] = numbers[best * apart];
        numbers[best * apart] = number;
        T sign = T(1), largest = T(0);
        for (i64 i = 0; i < n; ++i) {
            const T x = v[i * step + c];
            v[i * step + c] = v[i * step + best];
            v[i * step + best] = x;
            if (ab_abs(v[i * step + c]) > largest) {
                largest = ab_abs(v[i * step + c]);
                sign = v[i * step + c] < T(0) ? T(-1) : T(1);
            }
        }
        for (i64 i = 0; i < n; ++i) v[i * step + c] *= sign;
        for (i64 i = 0; i < m; ++i) {
            const T x = u[i * k + c];
            u[i * k + c] = u[i * k + best] * sign;
            if (best != c) u[i * k + best] = x;
        }
    }
}

// Whether a matrix holds NaN or infinities; then all of its result is NaN.
template <typename T> AB_FUNCTION bool ab_has_no_result(const T* x, i64 size, T* y, i64 n_results) {
    T rest = T(0);
    for (i64 i = 0; i < size; ++i) rest += x[i] * T(0);
    if (rest == rest) return false;
    for (i64 i = 0; i < n_results; ++i) y[i] = rest;
    return true;
}

// Jacobi's rotations, until all that is beside the diagonal is lost beside it.
template <typename T> AB_FUNCTION void ab_eigh(const T* x, T* y, T* w, i64 n, i64) {
    if (ab_has_no_result(x, n * n, y, n * (n + 1))) return;
    const i64 step = n + 1;
    T* v = y + 1;
    for (i64 i = 0; i < n; ++i)
        for (i64 j = 0; j < n; ++j) {
            w[i * n + j] = i >= j ? x[i * n + j] : x[j * n + i];
            v[i * step + j] = T(i == j);
        }
    bool is_done = false;
    for (i64 sweep = 0; sweep < 60 && !is_done; ++sweep) {
        is_done = true;
        for (i64 p = 0; p < n; ++p)
            for (i64 q = p + 1; q < n; ++q) {
                const T a = w[p * n + q], before = ab_abs(w[p * n + p]) + ab_abs(w[q * n + q]);
                if (before + ab_abs(a) * T(0.01) == before) continue;
                is_done = false;
                const T theta = (w[q * n + q] - w[p * n + p]) / (a * T(2));
                const T t = (theta < T(0) ? T(-1) : T(1)) / (ab_abs(theta) + ab_sqrt(theta * theta + T(1)));
                const T c = T(1) / ab_sqrt(t * t + T(1)), s = t * c;
                for (i64 k = 0; k < n; ++k) {
                    const T g = w[k * n + p], h = w[k * n + q];
                    w[k * n + p] = c * g - s * h;
                    w[k * n + q] = s * g + c * h;
                }
                for (i64 k = 0; k < n; ++k) {
                    const T g = w[p * n + k], h = w[q * n + k];
                    w[p * n + k] = c * g - s * h;
                    w[q * n + k] = s * g + c * h;
                }
                for (i64 k = 0; k < n; ++k) {
                    const T g = v[k * step + p], h = v[k * step + q];
                    v[k * step + p] = c * g - s * h;
                    v[k * step + q] = s * g + c * h;
                }
            }
    }
    for (i64 i = 0; i < n; ++i) y[i * step] = w[i * n + i];
    ab_sort_columns(y, step, v, n, v, 0, step, n, false);
}

// One-sided Jacobi: rotations that make the columns of the matrix orthogonal, or its rows where these are fewer.
template <typename T> AB_FUNCTION void ab_svd(const T* x, T* y, T* w, i64 m, i64 n) {
    const i64 k = m < n ? m : n, far = m < n ? n : m;
    if (ab_has_no_result(x, m * n, y, k * (m + 1 + n))) return;
    T *u = y, *s = y + m * k, *vh = s + k, *a = w, *v = w + far * k;  // a f[far, k] = p diag(s), v f[k, k]
    for (i64 i = 0; i < far; ++i)
        for (i64 j = 0; j < k; ++j) a[i * k + j] = m < n ? x[j * n + i] : x[i * n + j];
    for (i64 i = 0; i < k * k; ++i) v[i] = T(i / k == i % k);
    bool is_done = false;
    for (i64 sweep = 0; sweep < 60 && !is_done; ++sweep) {
        is_done = true;
        for (i64 p = 0; p < k; ++p)
            for (i64 q = p + 1; q < k; ++q) {
                T pp = T(0), qq = T(0), pq = T(0);
                for (i64 i = 0; i < far; ++i) {
                    pp += a[i * k + p] * a[i * k + p];
                    qq += a[i * k + q] * a[i * k + q];
                    pq += a[i * k + p] * a[i * k + q];
                }
                const T both = ab_sqrt(pp) * ab_sqrt(qq);
                if (both + ab_abs(pq) * T(0.1) == both) continue;
                is_done = false;
                const T theta = (qq - pp) / (pq * T(2));
                const T t = (theta < T(0) ? T(-1) : T(1)) / (ab_abs(theta) + ab_sqrt(theta * theta + T(1)));
                const T c = T(1) / ab_sqrt(t * t + T(1)), d = t * c;
                for (i64 i = 0; i < far + k; ++i) {
                    T* row = i < far ? a + i * k : v + (i - far) * k;
                    const T g = row[p], h = row[q];
                    row[p] = c * g - d * h;
                    row[q] = d * g + c * h;
                }
            }
    }
    for (i64 j = 0; j < k; ++j) {
        T square = T(0);
        for (i64 i = 0; i < far; ++i) square += a[i * k + j] * a[i * k + j];
        s[j] = ab_sqrt(square);
        for (i64 i = 0; i < far; ++i) a[i * k + j] /= s[j];
    }
    if (m < n)
        ab_sort_columns(s, 1, a, far, v, k, k, k, true);
    else
        ab_sort_columns(s, 1, v, k, a, far, k, k, true);
    for (i64 i = 0; i < m * k; ++i) u[i] = m < n ? v[i] : a[i];
    for (i64 j = 0; j < k; ++j)
        for (i64 i = 0; i < n; ++i) vh[j * n + i] = m < n ? a[i * k + j] : v[i * k + j];
}
