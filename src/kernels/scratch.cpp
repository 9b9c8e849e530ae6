#include "kernels/scratch.h"

#include <memory>
#include <new>

namespace switchyard::kernels {
namespace {

constexpr std::align_val_t kAlignment{64};

struct Free {
  void operator()(float* block) const noexcept { ::operator delete(block, kAlignment); }
};

struct Block {
  std::unique_ptr<float, Free> data;
  int64_t floats = 0;
};

thread_local Block blocks[2];

}  // namespace

float* thread_scratch(ScratchUse use, int64_t floats) noexcept {
  Block& block = blocks[static_cast<int>(use)];
  if (floats > block.floats) {
    block.data.reset();
    block.data.reset(static_cast<float*>(::operator new(static_cast<size_t>(floats) * sizeof(float), kAlignment)));
    block.floats = floats;
  }
  return block.data.get();
}

}  // namespace switchyard::kernels
