// The names of autobatch/backends/cuda/kernels.h on a CPU: a kernel is called once for each block, and each AB_THREADS
// is a loop over the threads of the block. Their order can be turned round: results must not depend on it. Two of them
// without AB_BARRIER between are a fault of the kernel, which would go unnoticed here: a launch then returns 1.

#include <math.h>
#include <utility>

#define AB_EMULATED
#define AB_KERNEL static void
#define AB_FUNCTION inline
#define AB_SHARED
#define AB_BARRIER ab_is_open = false;
#define AB_INFINITY __builtin_inff()
#define AB_NAN __builtin_nanf("")
#define __restrict__

struct ab_place {
    unsigned x;
};
static thread_local ab_place blockIdx, threadIdx, blockDim, gridDim;
static thread_local bool ab_backwards, ab_is_open, ab_met_no_barrier;

inline unsigned ab_first_thread() {
    ab_met_no_barrier |= ab_is_open;
    ab_is_open = true;
    return 0;
}

#define AB_THREADS                                                                                    \
    for (unsigned ab_k = ab_first_thread();                                                           \
         ab_k < blockDim.x && (threadIdx.x = ab_backwards ? blockDim.x - 1 - ab_k : ab_k, true); ++ab_k)

template <typename T> inline T ab_argument(long long value) { return (T)value; }

template <typename... P, size_t... I>
inline void ab_call(void (*kernel)(P...), const long long* arguments, std::index_sequence<I...>) {
    kernel(ab_argument<P>(arguments[I])...);
}

template <typename... P>
inline long long ab_launch(void (*kernel)(P...), long long blocks, long long threads, long long backwards,
                           const long long* arguments) {
    gridDim.x = (unsigned)blocks;
    blockDim.x = (unsigned)threads;
    ab_backwards = backwards != 0;
    ab_met_no_barrier = false;
    for (long long b = 0; b < blocks; ++b) {
        blockIdx.x = (unsigned)(ab_backwards ? blocks - 1 - b : b);
        ab_is_open = false;
        ab_call(kernel, arguments, std::index_sequence_for<P...>());
    }
    return ab_met_no_barrier;
}
