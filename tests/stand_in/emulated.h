// The names of autobatch/backends/cuda/kernels.h on a CPU: a kernel is called once for each block, and each AB_THREADS
// is a loop over the threads of the block. Their order can be turned round: results must not depend on it.

#include <math.h>
#include <utility>

#define AB_EMULATED
#define AB_KERNEL static void
#define AB_FUNCTION inline
#define AB_SHARED
#define AB_BARRIER
#define AB_INFINITY __builtin_inff()
#define AB_NAN __builtin_nanf("")
#define __restrict__

struct ab_place {
    unsigned x;
};
static thread_local ab_place blockIdx, threadIdx, blockDim, gridDim;
static thread_local bool ab_backwards;

#define AB_THREADS                                                                                    \
    for (unsigned ab_k = 0;                                                                           \
         ab_k < blockDim.x && (threadIdx.x = ab_backwards ? blockDim.x - 1 - ab_k : ab_k, true); ++ab_k)

template <typename T> inline T ab_argument(long long value) { return (T)value; }

template <typename... P, size_t... I>
inline void ab_call(void (*kernel)(P...), const long long* arguments, std::index_sequence<I...>) {
    kernel(ab_argument<P>(arguments[I])...);
}

template <typename... P>
inline void ab_launch(void (*kernel)(P...), long long blocks, long long threads, long long backwards,
                      const long long* arguments) {
    gridDim.x = (unsigned)blocks;
    blockDim.x = (unsigned)threads;
    ab_backwards = backwards != 0;
    for (long long b = 0; b < blocks; ++b) {
        blockIdx.x = (unsigned)(ab_backwards ? blocks - 1 - b : b);
        ab_call(kernel, arguments, std::index_sequence_for<P...>());
    }
}

// A kernel without AB_THREADS is called once for each thread.
template <typename... P>
inline void ab_launch_threads(void (*kernel)(P...), long long blocks, long long threads, long long backwards,
                              const long long* arguments) {
    gridDim.x = (unsigned)blocks;
    blockDim.x = (unsigned)threads;
    for (long long k = 0; k < blocks * threads; ++k) {
        const long long place = backwards ? blocks * threads - 1 - k : k;
        blockIdx.x = (unsigned)(place / threads);
        threadIdx.x = (unsigned)(place % threads);
        ab_call(kernel, arguments, std::index_sequence_for<P...>());
    }
}
