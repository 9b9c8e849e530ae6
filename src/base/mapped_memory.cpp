#include "base/mapped_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace switchyard {

std::shared_ptr<char> mapped_memory(int64_t bytes, bool huge_pages) {
  const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
  void* block = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  if (huge_pages) ::madvise(block, size, MADV_HUGEPAGE);
  return std::shared_ptr<char>(static_cast<char*>(block), [size](char* p) { ::munmap(p, size); });
}

}  // namespace switchyard
