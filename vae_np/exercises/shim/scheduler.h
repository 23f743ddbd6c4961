// The threads of one block as fibers on one CPU thread, block after block.
//
// A fiber runs until it has to wait for its block or its warp, or ends; then the next one runs, in forward, reverse or
// shuffled order, so that a missing barrier changes the result in at least one of them. Before every block all shared
// memory is filled with NaN (bytes of ones). What no device would accept is an error: a barrier that some threads never
// reach, threads that wait at different barriers, a launch beyond the limits.
#pragma once

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

struct uint3 {
    unsigned x, y, z;
};
static uint3 threadIdx, blockIdx, blockDim, gridDim;

extern "C" char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));

namespace shim {

enum class Waiting { not_at_all, for_block, for_warp, ended };
enum Order { forward, reverse, shuffled };

constexpr std::size_t stack_bytes = 256 * 1024;
constexpr unsigned most_threads = 1024, most_shared_bytes = 48 * 1024, most_blocks_across = 65535;

struct Fiber {
    char* stack;
    ucontext_t entry;
    jmp_buf state;
    bool entered = false;
    void* fake_stack = nullptr;
};

struct Thread {
    uint3 index;
    unsigned number;
    Fiber* fiber;
    Waiting waiting;
    int site;
    // Shuffles use two sets of slots in turn: a lane may be a shuffle ahead of another that has yet to read.
    unsigned shuffles;
};

static std::vector<char> dynamic_shared;
static std::vector<Thread> threads;
static std::vector<Fiber*> idle;
static char slots_of_warps[most_threads / 32][2][32][16];
static Thread* current;
static jmp_buf scheduler_state;
static void* scheduler_fake_stack;
static const void* scheduler_stack;
static std::size_t scheduler_stack_bytes;
static void (*kernel)(void**);
static void** arguments;
static std::string problem;

inline unsigned lane() { return current->number % 32; }

// The slots of this thread's warp for its next shuffle.
inline auto exchange_slots() -> char (&)[32][16] {
    return slots_of_warps[current->number / 32][current->shuffles++ % 2];
}

// Leave the fiber for the scheduler; the fiber goes on here when the scheduler returns to it.
__attribute__((noinline)) static void leave() {
    Fiber& fiber = *current->fiber;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&fiber.fake_stack, scheduler_stack, scheduler_stack_bytes);
#endif
    if (_setjmp(fiber.state) == 0) _longjmp(scheduler_state, 1);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(current->fiber->fake_stack, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

__attribute__((noinline)) static void wait(Waiting what, int site) {
    current->waiting = what;
    current->site = site;
    leave();
}

// A thread that has failed never goes on: the launch ends without it.
[[noreturn]] static void fail(const char* why) {
    problem = why;
    for (;;) leave();
}

static void fiber_main() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
    for (;;) {
        kernel(arguments);
        current->waiting = Waiting::ended;
        leave();
    }
}

static Fiber* new_fiber() {
    Fiber* fiber = new Fiber;
    fiber->stack = static_cast<char*>(
        mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    getcontext(&fiber->entry);
    fiber->entry.uc_stack.ss_sp = fiber->stack;
    fiber->entry.uc_stack.ss_size = stack_bytes;
    fiber->entry.uc_link = nullptr;
    makecontext(&fiber->entry, fiber_main, 0);
    return fiber;
}

// Run a thread until it waits or ends.
__attribute__((noinline)) static void run(Thread& thread) {
    if (thread.fiber == nullptr) {
        if (idle.empty()) idle.push_back(new_fiber());
        thread.fiber = idle.back();
        idle.pop_back();
    }
    current = &thread;
    threadIdx = thread.index;
    thread.waiting = Waiting::not_at_all;
    Fiber& fiber = *thread.fiber;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack, stack_bytes);
#endif
    if (_setjmp(scheduler_state) == 0) {
        if (fiber.entered) _longjmp(fiber.state, 1);
        fiber.entered = true;
        setcontext(&fiber.entry);
    }
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
    if (current->waiting == Waiting::ended) {
        idle.push_back(current->fiber);
        current->fiber = nullptr;
    }
}

// Plain stores to the whole section: between two variables lie red zones of AddressSanitizer's.
__attribute__((no_sanitize_address, noinline)) static void poison_shared() {
    for (volatile char* byte = __start_cuda_shared; byte != __stop_cuda_shared; ++byte) *byte = static_cast<char>(0xff);
    std::fill(dynamic_shared.begin(), dynamic_shared.end(), static_cast<char>(0xff));
}

// Let go what waits for its warp, if all of the warp does; else the block. False if nobody could.
static bool release() {
    bool any = false;
    for (std::size_t first = 0; first < threads.size(); first += 32) {
        const auto from = threads.begin() + first, to = threads.begin() + std::min(first + 32, threads.size());
        if (to - from == 32 && std::all_of(from, to, [](const Thread& t) { return t.waiting == Waiting::for_warp; })) {
            std::for_each(from, to, [](Thread& t) { t.waiting = Waiting::not_at_all; });
            any = true;
        }
    }
    if (any) return true;
    const int site = threads[0].site;
    if (std::all_of(threads.begin(), threads.end(), [site](const Thread& t) {
            return t.waiting == Waiting::for_block && t.site == site;
        })) {
        for (Thread& t : threads) t.waiting = Waiting::not_at_all;
        return true;
    }
    return false;
}

static void run_block(Order order, std::mt19937& random) {
    std::vector<unsigned> turn(threads.size());
    for (std::size_t i = 0; i < turn.size(); ++i) turn[i] = order == reverse ? turn.size() - 1 - i : i;
    for (;;) {
        if (order == shuffled) std::shuffle(turn.begin(), turn.end(), random);
        for (unsigned number : turn) {
            if (threads[number].waiting == Waiting::not_at_all) run(threads[number]);
            if (!problem.empty()) return;
        }
        const auto ended = [](const Thread& t) { return t.waiting == Waiting::ended; };
        if (std::all_of(threads.begin(), threads.end(), ended)) return;
        const auto ready = [](const Thread& t) { return t.waiting == Waiting::not_at_all; };
        if (std::any_of(threads.begin(), threads.end(), ready)) continue;
        if (!release()) {
            problem = "threads of a block wait at different barriers, or some have ended";
            return;
        }
    }
}

template <auto function, typename... Args, std::size_t... places>
void call(void (*)(Args...), void** args, std::index_sequence<places...>) {
    function(*static_cast<Args*>(args[places])...);
}

template <auto function, typename... Args>
void unpack(void (*type)(Args...), void** args) {
    call<function>(type, args, std::index_sequence_for<Args...>());
}

template <auto function>
void invoke(void** args) {
    unpack<function>(function, args);
}

template <typename... Args>
std::vector<std::size_t> sizes_of(void (*)(Args...)) {
    return {sizeof(Args)...};
}

// Run a kernel; the result is null, or what is wrong with the launch or with what the threads did.
template <auto function>
const char* launch(const unsigned* grid, const unsigned* block, unsigned shared_bytes, int order, unsigned seed,
                   void** args, const std::size_t* sizes, std::size_t count) {
    problem.clear();
    const std::vector<std::size_t> expected = sizes_of(function);
    if (count != expected.size())
        problem = "got " + std::to_string(count) + " arguments, expected " + std::to_string(expected.size());
    for (std::size_t i = 0; problem.empty() && i < count; ++i)
        if (sizes[i] != expected[i])
            problem = "argument " + std::to_string(i) + " has " + std::to_string(sizes[i]) + " bytes, expected " +
                      std::to_string(expected[i]);
    const unsigned size = block[0] * block[1] * block[2];
    if (size == 0 || size > most_threads) problem = "a block has " + std::to_string(size) + " threads";
    if (grid[0] == 0 || grid[0] > INT32_MAX || std::min(grid[1], grid[2]) == 0 ||
        std::max(grid[1], grid[2]) > most_blocks_across)
        problem = "the grid is " + std::to_string(grid[0]) + " x " + std::to_string(grid[1]) + " x " +
                  std::to_string(grid[2]);
    if (shared_bytes > most_shared_bytes) problem = std::to_string(shared_bytes) + " bytes of dynamic shared memory";
    if (!problem.empty()) return problem.c_str();

    kernel = invoke<function>;
    arguments = args;
    dynamic_shared = std::vector<char>(shared_bytes);
    blockDim = {block[0], block[1], block[2]};
    gridDim = {grid[0], grid[1], grid[2]};
    std::mt19937 random(seed);
    for (unsigned b = 0; b < grid[0] * grid[1] * grid[2]; ++b) {
        blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
        threads.clear();
        for (unsigned t = 0; t < size; ++t)
            threads.push_back({{t % block[0], t / block[0] % block[1], t / block[0] / block[1]}, t, nullptr,
                               Waiting::not_at_all, 0, 0});
        poison_shared();
        run_block(static_cast<Order>(order), random);
        if (!problem.empty()) {
            // What still waits is given up with its stack: it can never be resumed.
            idle.clear();
            return problem.c_str();
        }
    }
    return nullptr;
}

}  // namespace shim

#define SHIM_KERNEL(name)                                                                                              \
    extern "C" const char* launch_##name(const unsigned* grid, const unsigned* block, unsigned shared_bytes,           \
                                         int order, unsigned seed, void** args, const std::size_t* sizes,              \
                                         std::size_t count) {                                                          \
        return shim::launch<name>(grid, block, shared_bytes, order, seed, args, sizes, count);                         \
    }
