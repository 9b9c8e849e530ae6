// Attention over a cache in pages, for many sequences of different lengths in one call (Kwon et al., arXiv:2309.06180).
//
// A page holds the keys and values of 16 tokens in one layer, for each head: keys [c][16] (lanes are tokens, so that scores need no
// sums across lanes), then values [16][c], in float32, bfloat16 (nearest even) or int8 (each key and each value of a head has a
// scale of its own, max / 127). A sequence is a list of pages.
#pragma once

#include <cstdint>
#include <string_view>

namespace switchyard::kernels {

enum class KvFormat { float32, bfloat16, int8 };
[[nodiscard]] std::string_view name_of(KvFormat format) noexcept;
[[nodiscard]] KvFormat parse_kv_format(std::string_view name);  // Error{usage} lists the names

inline constexpr int64_t kPageTokens = 16;

// The pages of one layer.
struct KvPages {
  char* data = nullptr;
  KvFormat format = KvFormat::float32;
  int64_t heads = 1, head_dim = 0;

  // Of a page, a multiple of 64.
  [[nodiscard]] static int64_t page_bytes(KvFormat format, int64_t heads, int64_t head_dim) noexcept;
};

// Rows [row, row + rows) of the call are tokens first .. first + rows - 1 of a sequence.
struct PagedRows {
  int64_t row = 0, rows = 0, first = 0;
  const int32_t* pages = nullptr;  // of its tokens so far and those of this call
};

// Puts keys and values of the rows, [T, heads, head_dim] each, into their pages.
void kv_store(const KvPages& pages, const PagedRows* parts, int64_t num_parts, const float* k, const float* v);

// out[r, h, :] = sum_j p_j v_j over the stored tokens j of the row's sequence up to the row itself, and the last `window` of
// them if it is not 0; p = softmax(scale <q_r,h , k_j>), head h of `heads` reads head h / (heads / pages.heads). q and out
// [T, heads, head_dim]. Each row is one chain of sums: it does not depend on the other rows or on threads.
void paged_attention(const KvPages& pages, const PagedRows* parts, int64_t num_parts, int64_t heads, const float* q, float scale, int64_t window, float* out);

}  // namespace switchyard::kernels
