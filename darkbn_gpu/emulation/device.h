// The CUDA that the kernels use, on one thread of the host: in front of a kernel file, C++17.
//
// A block's threads are fibers. A thread runs on its own stack until it ends or waits, so threads that never wait follow
// each other on one stack and cost little more than a call. Threads wait at barriers and at warp operations; these
// go on when all threads that take part are there, and are errors when that cannot happen.
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <sys/mman.h>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
// Not with the sanitizer where it can be helped: its swapcontext clears what it knows of both stacks, 18 ms a block.
#if !defined(__x86_64__)
#define EMULATED_UCONTEXT
#include <ucontext.h>
#endif

#define __CUDACC__ 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define DARKBN_EMULATED 1
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("emulated_shared")))
#define restrict __restrict__

struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static uint3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

// With race.h in front, every access of the kernels to memory is looked at; what follows is not meant by that.
#if defined(EMULATED_RACES)
#define RACES(what) races::what
#else
#define UNWATCHED
#define RACES(what) ((void)0)
#endif

namespace emulated {

enum Order { ASCENDING, DESCENDING, SHUFFLED };
enum State { READY, AT_BARRIER, AT_WARP, ENDED };

const size_t STACK = 256 * 1024;
const unsigned MOST = 1024; // threads of a block
const int LANES = 32;

struct Fiber {
#if defined(EMULATED_UCONTEXT)
    ucontext_t context;
#else
    void *top;
#endif
    void *sanitizer;
    State state;
    const char *file;
    int line;
    unsigned mask;         // lanes that take part in the warp operation
    unsigned turn;         // warp operations so far: values of two in a row lie in different slots
    unsigned slot;         // its stack
    unsigned warp_turn;    // __syncwarp that it has passed
    uint64_t values[2];    // what it gives to other lanes
};

// Sections with names that are C identifiers have these symbols; weak, as a file may have no shared memory.
extern "C" __attribute__((weak, visibility("hidden"))) char __start_emulated_shared[], __stop_emulated_shared[];

static Fiber fibers[MOST], scheduler;
static char *stacks;
static unsigned current, threads;
static unsigned order[MOST];
static char message[512];
static void (*thunk)(void **);
static void **arguments;

#if !defined(EMULATED_UCONTEXT)
extern "C" __attribute__((visibility("hidden"))) void emulated_switch(void **from, void *to);
asm(R"(
.text
.hidden emulated_switch
.globl emulated_switch
.type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulated_switch, .-emulated_switch
)");
#endif

static void switch_to(Fiber &from, Fiber &to, [[maybe_unused]] const void *stack, [[maybe_unused]] size_t size)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(from.state == ENDED ? nullptr : &from.sanitizer, stack, size);
#endif
#if defined(EMULATED_UCONTEXT)
    swapcontext(&from.context, &to.context);
#else
    emulated_switch(&from.top, to.top);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from.sanitizer, nullptr, nullptr);
#endif
}

static const void *scheduler_stack;
static size_t scheduler_size;

static void leave() { switch_to(fibers[current], scheduler, scheduler_stack, scheduler_size); }

static void entry()
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    thunk(arguments);
    fibers[current].state = ENDED;
    leave();
}

static void place(unsigned thread)
{
    current = thread;
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / (blockDim.x * blockDim.y)};
}

static char *stack_of(const Fiber &fiber) { return stacks + fiber.slot * STACK; }

static void resume(unsigned thread)
{
    place(thread);
    fibers[thread].state = READY;
    RACES(run(thread, fibers[thread].warp_turn));
    switch_to(scheduler, fibers[thread], stack_of(fibers[thread]), STACK);
    RACES(stop());
}

static void start(unsigned thread, unsigned slot)
{
    Fiber &fiber = fibers[thread];
    fiber.slot = slot;
    fiber.turn = fiber.warp_turn = 0;
#if defined(EMULATED_UCONTEXT)
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack_of(fiber);
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
#else
    // Six registers, then the address that `ret` goes to, then an empty place: entry finds the stack as after a call.
    void **top = (void **)(stack_of(fiber) + STACK) - 8;
    top[6] = (void *)entry;
    fiber.top = top;
#endif
    resume(thread);
}

static void wait(State state, const char *file, int line, unsigned mask)
{
    Fiber &fiber = fibers[current];
    fiber.state = state, fiber.file = file, fiber.line = line, fiber.mask = mask;
    leave();
}

static bool same_place(const Fiber &a, const Fiber &b)
{
    return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

static const char *place_name(unsigned thread)
{
    static char text[4][128];
    static unsigned next;
    const Fiber &fiber = fibers[thread];
    char *to = text[next++ % 4];
    if (fiber.state == ENDED) snprintf(to, sizeof text[0], "thread %u has ended", thread);
    else snprintf(to, sizeof text[0], "thread %u waits at %s:%d", thread, fiber.file, fiber.line);
    return to;
}

// Lets a warp go on whose lanes have all come to the operation that lane `first` waits at.
static bool release_warp(unsigned first)
{
    const unsigned base = first / LANES * LANES, mask = fibers[first].mask;
    if (!(mask >> (first - base) & 1)) return false;
    for (unsigned lane = 0; lane < LANES; ++lane) {
        if (!(mask >> lane & 1)) continue;
        if (base + lane >= threads) return false;
        const Fiber &other = fibers[base + lane];
        if (other.state != AT_WARP || other.mask != mask || !same_place(other, fibers[first])) return false;
    }
    for (unsigned lane = 0; lane < LANES; ++lane)
        if (mask >> lane & 1) fibers[base + lane].state = READY;
    return true;
}

static bool release()
{
    bool released = false;
    unsigned waiting = 0, at = 0;
    for (unsigned k = 0; k < threads; ++k)
        if (fibers[k].state == AT_WARP) released |= release_warp(k);
        else if (fibers[k].state == AT_BARRIER) ++waiting, at = k;
    if (released || waiting == 0) return released;
    for (unsigned k = 0; k < threads; ++k)
        if (fibers[k].state != AT_BARRIER || !same_place(fibers[k], fibers[at])) return false;
    for (unsigned k = 0; k < threads; ++k) fibers[k].state = READY;
    RACES(barrier());
    return true;
}

static void report_divergence()
{
    unsigned a = 0, b = 0;
    while (fibers[a].state == ENDED) ++a;
    for (unsigned k = 0; k < threads; ++k)
        if (fibers[k].state == ENDED || !same_place(fibers[k], fibers[a])) b = k;
    if (a == b)
        snprintf(message, sizeof message, "block %u: %s with lanes 0x%x, which never all come", blockIdx.x,
                 place_name(a), fibers[a].mask);
    else
        snprintf(message, sizeof message, "block %u: not all threads come to the same barrier: %s, %s", blockIdx.x,
                 place_name(a), place_name(b));
}

// Threads that never end leave their frames on their stacks; what the sanitizer knows of these must not stay.
static void forget_stacks()
{
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stacks, threads * STACK);
#endif
}

static bool run_block(int poison)
{
    if (__start_emulated_shared) memset(__start_emulated_shared, poison, __stop_emulated_shared - __start_emulated_shared);
    RACES(begin_block());
    unsigned slots = 0, ended = 0;
    for (unsigned k = 0; k < threads; ++k) {
        start(order[k], slots);
        if (fibers[order[k]].state == ENDED) ++ended;
        else ++slots;
    }
    while (ended < threads) {
        if (!release()) {
            report_divergence();
            forget_stacks();
            return false;
        }
        for (unsigned k = 0; k < threads; ++k) {
            if (fibers[order[k]].state != READY) continue;
            resume(order[k]);
            ended += fibers[order[k]].state == ENDED;
        }
    }
    return true;
}

static void arrange(std::vector<unsigned> &items, int how)
{
    const unsigned count = (unsigned)items.size();
    uint64_t random = 88172645463325252ull;
    for (unsigned k = 0; k < count; ++k) items[k] = how == DESCENDING ? count - 1 - k : k;
    for (unsigned k = count; how == SHUFFLED && k > 1; --k) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        std::swap(items[k - 1], items[random % k]);
    }
}

static const char *run(void (*kernel)(void **), const unsigned *grid, const unsigned *block, void **args, int how,
                       int poison)
{
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
    threads = block[0] * block[1] * block[2];
    thunk = kernel, arguments = args;
    if (threads < 1 || threads > MOST) return "a block has 1 to 1024 threads";
    if (!stacks) {
        void *memory = mmap(nullptr, MOST * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                            -1, 0);
        if (memory == MAP_FAILED) return "no memory for the stacks of the threads";
        stacks = (char *)memory;
    }
    std::vector<unsigned> items(threads), blocks(grid[0] * grid[1] * grid[2]);
    arrange(items, how);
    arrange(blocks, how);
    memcpy(order, items.data(), threads * sizeof(unsigned));
    RACES(begin_launch(stacks, stacks + MOST * STACK, __start_emulated_shared, __stop_emulated_shared));
    for (const unsigned b : blocks) {
        blockIdx = {b % grid[0], b / grid[0] % grid[1], b / (grid[0] * grid[1])};
        if (!run_block(poison)) return message;
#if defined(EMULATED_RACES)
        if (races::found[0]) {
            snprintf(message, sizeof message, "block %u: %s", blockIdx.x, races::found);
            return message;
        }
#endif
    }
    return nullptr;
}

static void sync_warp(const char *file, int line)
{
    wait(AT_WARP, file, line, 0xffffffffu);
    RACES(run(current, ++fibers[current].warp_turn));
}

// Gives `value` to the other lanes and takes that of lane `source`; its own where there is no such lane.
template <typename T>
static T exchange(const char *file, int line, unsigned mask, T value, int source)
{
    static_assert(sizeof(T) <= sizeof(uint64_t) && std::is_trivially_copyable_v<T>);
    const unsigned me = current, base = me / LANES * LANES, turn = fibers[me].turn++ & 1;
    memcpy(&fibers[me].values[turn], &value, sizeof value);
    wait(AT_WARP, file, line, mask);
    const unsigned from = source < 0 || source >= LANES || !(mask >> source & 1) ? me : base + (unsigned)source;
    memcpy(&value, &fibers[from].values[turn], sizeof value);
    return value;
}

static unsigned ballot(const char *file, int line, unsigned mask, bool predicate)
{
    const unsigned me = current, base = me / LANES * LANES, turn = fibers[me].turn++ & 1;
    fibers[me].values[turn] = predicate;
    wait(AT_WARP, file, line, mask);
    unsigned votes = 0;
    for (unsigned lane = 0; lane < LANES; ++lane)
        if (mask >> lane & 1 && fibers[base + lane].values[turn]) votes |= 1u << lane;
    return votes;
}

// Matrix units: a 16 x 8 product of a warp, with the words of every lane as PTX lays them out (mma.cuh says how).
static uint32_t words[2][MOST][6];

static float half_value(uint32_t bits)
{
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const float size = exponent == 31 ? (mantissa ? NAN : INFINITY)
        : exponent ? std::ldexp((float)(mantissa + 1024), exponent - 25) : std::ldexp((float)mantissa, -24);
    return bits & 0x8000 ? -size : size;
}

// To the nearest half, ties to even.
static uint32_t half_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000;
    const float size = std::fabs(value);
    if (!(size <= 3e38f)) return sign | (size != size ? 0x7e00 : 0x7c00);
    int exponent;
    std::frexp(size, &exponent); // size = [0.5, 1) * 2^exponent
    const int unit = (exponent > -13 ? exponent : -13) - 11;
    const float rounded = std::ldexp(std::nearbyint(std::ldexp(size, -unit)), unit);
    if (rounded >= 65520.0f) return sign | 0x7c00;
    if (rounded < 6.103515625e-05f) return sign | (uint32_t)std::ldexp(rounded, 24);
    std::frexp(rounded, &exponent);
    return sign | (((uint32_t)(exponent + 14) << 10) + ((uint32_t)std::ldexp(rounded, 11 - exponent) - 1024));
}

static float word_value(uint32_t word, int part, bool halves)
{
    if (halves) return half_value(part ? word >> 16 : word & 0xffff);
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

static void mma(const char *file, int line, float *d, const uint32_t *a, const uint32_t *b, bool halves)
{
    const unsigned me = current, base = me / LANES * LANES, turn = fibers[me].turn++ & 1;
    memcpy(words[turn][me], a, 4 * sizeof *a);
    memcpy(words[turn][me] + 4, b, 2 * sizeof *b);
    wait(AT_WARP, file, line, 0xffffffffu);
    const unsigned g = (me - base) / 4, t = (me - base) % 4;
    for (unsigned e = 0; e < 4; ++e) {
        const unsigned row = g + e / 2 * 8, column = 2 * t + e % 2;
        for (unsigned k = 0; k < 8; ++k) { // words of a row
            const uint32_t left = words[turn][base + row % 8 * 4 + k % 4][row / 8 + k / 4 * 2];
            const uint32_t right = words[turn][base + column * 4 + k % 4][4 + k / 4];
            for (int part = 0; part <= halves; ++part)
                d[e] += word_value(left, part, halves) * word_value(right, part, halves);
        }
    }
}

static inline int lane() { return (int)(current % LANES); }

// -- parameters of kernels

template <typename T>
constexpr char kind_of()
{
    if (std::is_pointer_v<T>) return 'P';
    if (std::is_same_v<T, float>) return 'f';
    if (std::is_same_v<T, double>) return 'd';
    return sizeof(T) == 8 ? 'q' : sizeof(T) == 4 ? 'i' : '?';
}

template <typename... T, size_t... I>
static void call(void (*kernel)(T...), void **args, std::index_sequence<I...>)
{
    kernel(*(T *)args[I]...);
}

template <typename... T>
static void unpack(void (*kernel)(T...), void **args)
{
    call(kernel, args, std::index_sequence_for<T...>());
}

template <typename... T>
static const char *kinds(void (*)(T...))
{
    static const char text[] = {kind_of<T>()..., 0};
    return text;
}

} // namespace emulated

#define __syncthreads() emulated::wait(emulated::AT_BARRIER, __FILE__, __LINE__, 0)
#define __syncwarp() emulated::sync_warp(__FILE__, __LINE__)
#define __shfl_sync(mask, value, lane) emulated::exchange(__FILE__, __LINE__, mask, value, lane)
#define __shfl_down_sync(mask, value, step) \
    emulated::exchange(__FILE__, __LINE__, mask, value, emulated::lane() + (step))
#define __shfl_up_sync(mask, value, step) \
    emulated::exchange(__FILE__, __LINE__, mask, value, emulated::lane() - (step))
#define __shfl_xor_sync(mask, value, bits) \
    emulated::exchange(__FILE__, __LINE__, mask, value, emulated::lane() ^ (bits))
#define __ballot_sync(mask, predicate) emulated::ballot(__FILE__, __LINE__, mask, predicate)
#define __any_sync(mask, predicate) (emulated::ballot(__FILE__, __LINE__, mask, predicate) != 0)
#define __all_sync(mask, predicate) (emulated::ballot(__FILE__, __LINE__, mask, predicate) == (mask))
#define __threadfence() ((void)0)

template <typename T>
UNWATCHED static inline T atomicAdd(T *to, T value)
{
    RACES(atomic(to, sizeof *to, __builtin_return_address(0)));
    const T old = *to;
    *to = old + value;
    return old;
}
template <typename T>
UNWATCHED static inline T atomicMax(T *to, T value)
{
    RACES(atomic(to, sizeof *to, __builtin_return_address(0)));
    const T old = *to;
    *to = value > old ? value : old;
    return old;
}
template <typename T>
UNWATCHED static inline T atomicCAS(T *to, T expected, T value)
{
    RACES(atomic(to, sizeof *to, __builtin_return_address(0)));
    const T old = *to;
    if (old == expected) *to = value;
    return old;
}

static inline float __uint_as_float(unsigned bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline unsigned __float_as_uint(float value)
{
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline unsigned to_tf32(float x)
{
    const unsigned bits = __float_as_uint(x);
    return x - x == 0 ? (bits + 0x1000u) & ~0x1fffu : bits;
}
static inline unsigned to_halves(float low, float high)
{
    return emulated::half_bits(low) | emulated::half_bits(high) << 16;
}
static inline float from_half(unsigned bits) { return emulated::half_value(bits); }
#define mma_tf32(d, a, b) emulated::mma(__FILE__, __LINE__, d, a, b, false)
#define mma_half(d, a, b) emulated::mma(__FILE__, __LINE__, d, a, b, true)

static inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
static inline float __int_as_float(int bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline int __float_as_int(float value)
{
    int bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

// After the kernels: one line for each.
#define EMULATED_KERNEL(name)                                                                                       \
    extern "C" const char *emulated_run_##name(const unsigned *grid, const unsigned *block, void **args, int how, \
                                               int poison)                                                         \
    {                                                                                                               \
        return emulated::run([](void **values) { emulated::unpack(name, values); }, grid, block, args, how, poison); \
    }                                                                                                               \
    extern "C" const char *emulated_kinds_##name() { return emulated::kinds(name); }
