#include "kernels/grouped_gemm_scratch.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace switchyard::kernels {

namespace {
constexpr size_t kHugePage = size_t{2} << 20;
}

GemmScratch::~GemmScratch() { std::free(data_); }

char* GemmScratch::reserve(size_t bytes) {
  if (bytes <= size_) return data_;
  const bool huge = bytes >= kHugePage;
  const size_t unit = huge ? kHugePage : 4096;
  const size_t rounded = (bytes + unit - 1) / unit * unit;
  void* fresh = std::aligned_alloc(unit, rounded);
  if (!fresh) throw std::bad_alloc();
  if (huge) madvise(fresh, rounded, MADV_HUGEPAGE);  // advice only: fewer TLB misses if the system agrees
  std::free(data_);
  data_ = static_cast<char*>(fresh);
  size_ = rounded;
  return data_;
}

}  // namespace switchyard::kernels
