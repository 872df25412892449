// Data races between emulated threads: in front of device.h, in files compiled with -fsanitize=thread.
//
// The compiler then calls __tsan_read4(address) and the like at every access to memory. These are not those of its
// library but the ones below, which know what orders CUDA's threads: __syncthreads those of a block, __syncwarp those of
// a warp, nothing those of different blocks. Two accesses of two threads that nothing orders are a race if one of them
// writes and not both are atomic. Blocks run one after the other, so the first and the last reader are enough.
//
// Accesses of four bytes and more are looked at by words, smaller ones by bytes: arrays that are accessed both ways are
// not expected.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <unordered_map>

#define EMULATED_RACES
#define UNWATCHED __attribute__((no_sanitize("thread")))

namespace races {

enum Kind { READ, WRITE, ATOMIC };

struct Access {
    uint32_t interval; // between two barriers of a block, numbered through all launches; 0: none
    uint16_t thread, warp_turn;
    uint32_t place;    // in the machine code
    uint32_t atomic;
};

struct Cell {
    Access written, first_read, last_read;
    uint32_t many; // the interval in which several threads read
};

const uintptr_t PAGE = 4096;
const size_t MOST_PAGES = 128; // 27 MB

static std::unordered_map<uintptr_t, Cell *> *pages;
static uintptr_t last_page;
static Cell *last_cells;

static bool watching; // a thread of the kernel runs
static uint32_t interval = 1, first_of_launch, first_of_block;
static uint16_t thread, warp_turn;
static const char *module[2], *stacks[2], *shared[2]; // first byte, and the one behind the last
static char found[384];

UNWATCHED static Cell &cell_of(uintptr_t address)
{
    const uintptr_t page = address / PAGE;
    if (!last_cells || page != last_page) {
        Cell *&cells = (*pages)[page];
        if (!cells) cells = (Cell *)calloc(PAGE, sizeof(Cell));
        if (!cells) abort();
        last_page = page, last_cells = cells;
    }
    return last_cells[address % PAGE];
}

UNWATCHED static bool inside(const char *const (&range)[2], const void *pointer)
{
    return pointer >= range[0] && pointer < range[1];
}

// Whether nothing orders that access to an address and the present one.
UNWATCHED static bool unordered(uintptr_t address, const Access &a)
{
    if (a.interval < first_of_launch) return false;
    if (a.interval < first_of_block) return !inside(shared, (void *)address); // every block has its own
    if (a.interval != interval || a.thread == thread) return false;
    return a.thread / 32 != thread / 32 || a.warp_turn == warp_turn;
}

UNWATCHED static void report(uintptr_t address, const Access &a, const char *did, uint32_t place, Kind kind)
{
    static const char *does[] = {"reads", "writes", "adds atomically"};
    if (found[0]) return;
    char where[64], block[48] = "";
    if (inside(shared, (void *)address)) snprintf(where, sizeof where, "shared memory, byte %zu", (size_t)((char *)address - shared[0]));
    else snprintf(where, sizeof where, "address 0x%zx", (size_t)address);
    if (a.interval < first_of_block) snprintf(block, sizeof block, " of another block");
    snprintf(found, sizeof found, "data race, %s: thread %u%s %s at +0x%x, thread %u %s at +0x%x, and nothing orders them",
             where, a.thread, block, did, a.place, thread, does[kind], place);
}

UNWATCHED static void look(uintptr_t address, Kind kind, uint32_t place)
{
    Cell &cell = cell_of(address);
    const Access now = {interval, thread, warp_turn, place, kind == ATOMIC};
    if (unordered(address, cell.written) && !(kind == ATOMIC && cell.written.atomic))
        report(address, cell.written, "wrote", place, kind);
    if (kind == READ) {
        if (cell.first_read.interval < (inside(shared, (void *)address) ? first_of_block : first_of_launch))
            cell.first_read = now;
        if (cell.last_read.interval == interval && cell.last_read.thread != thread) cell.many = interval;
        else cell.last_read = now;
        return;
    }
    if (unordered(address, cell.first_read)) report(address, cell.first_read, "read", place, kind);
    if (unordered(address, cell.last_read)) report(address, cell.last_read, "read", place, kind);
    if (cell.many == interval && cell.last_read.thread == thread) {
        Access other = cell.last_read;
        other.thread = thread ^ 1;
        report(address, other, "or another one read", place, kind);
    }
    cell.written = now;
}

UNWATCHED static void access(const void *pointer, size_t size, Kind kind, const void *caller)
{
    const char *at = (const char *)pointer;
    if (!watching || inside(stacks, at) || (inside(module, at) && !inside(shared, at))) return;
    const uint32_t place = (uint32_t)((const char *)caller - 1 - module[0]);
    const uintptr_t step = size < 4 ? 1 : 4;
    watching = false; // the map of pages is compiled like all else
    for (uintptr_t k = 0; k < size; k += step) look((uintptr_t)at + k, kind, place);
    watching = true;
}

// -- what the emulated device says

// Where this module lies in memory.
UNWATCHED static int find_module(dl_phdr_info *info, size_t, void *)
{
    const char *first = (const char *)info->dlpi_addr, *end = first;
    for (int k = 0; k < info->dlpi_phnum; ++k) {
        const auto &part = info->dlpi_phdr[k];
        const char *stop = first + part.p_vaddr + part.p_memsz;
        if (part.p_type == PT_LOAD && stop > end) end = stop;
    }
    if ((const char *)&interval < first || (const char *)&interval >= end) return 0;
    module[0] = first, module[1] = end;
    return 1;
}

UNWATCHED static void begin_launch(char *stacks_first, char *stacks_end, char *shared_first, char *shared_end)
{
    stacks[0] = stacks_first, stacks[1] = stacks_end, shared[0] = shared_first, shared[1] = shared_end;
    if (!pages) pages = new std::unordered_map<uintptr_t, Cell *>, dl_iterate_phdr(find_module, nullptr);
    if (pages->size() > MOST_PAGES) {
        for (auto &page : *pages) free(page.second);
        pages->clear();
    }
    last_cells = nullptr;
    found[0] = 0;
    first_of_launch = ++interval;
}

UNWATCHED static void begin_block() { first_of_block = ++interval; }
UNWATCHED static void barrier() { ++interval; }
UNWATCHED static void run(unsigned number, unsigned turn)
{
    thread = (uint16_t)number, warp_turn = (uint16_t)turn, watching = true;
}
UNWATCHED static void stop() { watching = false; }
UNWATCHED static void atomic(void *pointer, size_t size, void *caller) { access(pointer, size, ATOMIC, caller); }

} // namespace races

// -- what the compiler calls

#define CALLER __builtin_return_address(0)
#define WATCHED(name, size, kind)                                                                       \
    extern "C" __attribute__((visibility("hidden"))) UNWATCHED void __tsan_##name(void *pointer) \
    {                                                                                                   \
        races::access(pointer, size, races::kind, CALLER);                                             \
    }
#define WATCHED_SIZE(size) WATCHED(read##size, size, READ) WATCHED(write##size, size, WRITE)
#define WATCHED_UNALIGNED(size) \
    WATCHED(unaligned_read##size, size, READ) WATCHED(unaligned_write##size, size, WRITE)
WATCHED_SIZE(1) WATCHED_SIZE(2) WATCHED_SIZE(4) WATCHED_SIZE(8) WATCHED_SIZE(16)
WATCHED_UNALIGNED(2) WATCHED_UNALIGNED(4) WATCHED_UNALIGNED(8) WATCHED_UNALIGNED(16)

extern "C" __attribute__((visibility("hidden"))) UNWATCHED void __tsan_read_range(void *pointer, size_t size)
{
    races::access(pointer, size, races::READ, CALLER);
}
extern "C" __attribute__((visibility("hidden"))) UNWATCHED void __tsan_write_range(void *pointer, size_t size)
{
    races::access(pointer, size, races::WRITE, CALLER);
}
extern "C" __attribute__((visibility("hidden"))) UNWATCHED void __tsan_init() {}
