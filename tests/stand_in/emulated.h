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

// A kernel whose blocks wait for each other: each block is a fiber, which goes on until it has to wait. Then the next one
// runs, in order, or from the last to the first: what a block reads too early is not there yet, every time.

#include <ucontext.h>

#include <memory>

#define AB_RESIDENT static void
#define AB_DYNAMIC(memory) unsigned char* const memory = ab_fibers[blockIdx.x].memory;
#define AB_FENCE
#define AB_ADD_ONE(counter) ((*(counter))++)
#define AB_PAUSE ab_pause();

struct ab_fiber {
    ucontext_t here;
    std::unique_ptr<unsigned char[]> stack, shared;
    unsigned char* memory;
    bool is_done;
};
static thread_local std::unique_ptr<ab_fiber[]> ab_fibers;
static thread_local ucontext_t ab_main;
static thread_local void (*ab_walks)(long long*);
static thread_local long long* ab_table;

inline void ab_pause() {
    const unsigned block = blockIdx.x, thread = threadIdx.x;
    const bool was_open = ab_is_open;
    swapcontext(&ab_fibers[block].here, &ab_main);
    blockIdx.x = block;
    threadIdx.x = thread;
    ab_is_open = was_open;
}

static void ab_start_fiber() {
    ab_is_open = false;
    const unsigned block = blockIdx.x;
    ab_walks(ab_table);
    ab_fibers[block].is_done = true;
}

// Returns 1 as `ab_launch` does; 2 where blocks wait for one that does not come.
inline long long ab_launch_resident(void (*kernel)(long long*), long long blocks, long long threads,
                                    long long shared_bytes, long long backwards, long long* table) {
    const size_t stack_bytes = 1 << 18;
    gridDim.x = (unsigned)blocks;
    blockDim.x = (unsigned)threads;
    ab_backwards = backwards != 0;
    ab_met_no_barrier = false;
    ab_walks = kernel;
    ab_table = table;
    ab_fibers.reset(new ab_fiber[blocks]);
    for (long long b = 0; b < blocks; ++b) {
        ab_fiber& fiber = ab_fibers[b];
        fiber.is_done = false;
        fiber.stack.reset(new unsigned char[stack_bytes]);
        fiber.shared.reset(new unsigned char[shared_bytes + 32]);
        for (long long k = 0; k < shared_bytes + 32; ++k) fiber.shared[k] = 0xA5;
        fiber.memory = fiber.shared.get() + (32 - (size_t)fiber.shared.get() % 32) % 32;
        getcontext(&fiber.here);
        fiber.here.uc_stack.ss_sp = fiber.stack.get();
        fiber.here.uc_stack.ss_size = stack_bytes;
        fiber.here.uc_link = &ab_main;
        makecontext(&fiber.here, ab_start_fiber, 0);
    }
    long long left = blocks, before = -1, idle = 0;
    while (left && idle < 3) {
        left = 0;
        for (long long b = 0; b < blocks; ++b) {
            const long long block = ab_backwards ? blocks - 1 - b : b;
            if (ab_fibers[block].is_done) continue;
            blockIdx.x = (unsigned)block;
            swapcontext(&ab_main, &ab_fibers[block].here);
            left += !ab_fibers[block].is_done;
        }
        idle = table[0] == before ? idle + 1 : 0;
        before = table[0];
    }
    ab_fibers.reset();
    return left ? 2 : ab_met_no_barrier;
}
