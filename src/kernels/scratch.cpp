#include "kernels/scratch.h"

#include <sys/mman.h>

#include <cstdlib>
#include <memory>
#include <new>

namespace switchyard::kernels {
namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

struct Free {
  void operator()(float* block) const noexcept { std::free(block); }
};

struct Block {
  std::unique_ptr<float, Free> data;
  int64_t floats = 0;
};

thread_local Block blocks[2];

float* allocate(size_t bytes) {
  const size_t unit = bytes >= kHugePage ? kHugePage : kCacheLine;
  const size_t rounded = (bytes + unit - 1) / unit * unit;
  void* block = std::aligned_alloc(unit, rounded);
  if (!block) throw std::bad_alloc();
  if (unit == kHugePage) ::madvise(block, rounded, MADV_HUGEPAGE);  // advice only: fewer TLB misses if the system agrees
  return static_cast<float*>(block);
}

}  // namespace

float* thread_scratch(ScratchUse use, int64_t floats) noexcept {
  Block& block = blocks[static_cast<int>(use)];
  if (floats > block.floats) {
    block.data.reset();
    block.data.reset(allocate(static_cast<size_t>(floats) * sizeof(float)));
    block.floats = floats;
  }
  return block.data.get();
}

}  // namespace switchyard::kernels
