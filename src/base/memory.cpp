#include "base/memory.h"

#include <climits>
#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace switchyard {

void keep_freed_memory() {
#if defined(__GLIBC__)
  mallopt(M_MMAP_MAX, 0);  // no block is too large to be kept
  mallopt(M_TRIM_THRESHOLD, -1);  // and none is given back
#endif
}

}  // namespace switchyard
