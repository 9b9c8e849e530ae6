// Views of arrays whose rows need not touch: slices of a fused projection, caches with spare room. Strides count elements.
#pragma once

#include <cstdint>

namespace switchyard::kernels {

// [rows, width] with rows `stride` apart.
template <class T>
struct MatrixRows {
  T* data = nullptr;
  int64_t stride = 0;
  // Always inlined: files of several instruction sets use it, and the linker must not pick one of their copies.
  [[nodiscard, gnu::always_inline]] T* row(int64_t i) const noexcept { return data + i * stride; }
};

// [B, S, heads, head_dim]: the heads of a token lie together; tokens and sequences may lie further apart.
template <class T>
struct HeadRows {
  T* data = nullptr;
  int64_t sequence_stride = 0;
  int64_t token_stride = 0;
};

}  // namespace switchyard::kernels
