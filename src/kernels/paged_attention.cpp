#include "kernels/paged_attention.h"

#include "kernels/per_isa.h"
#include "switchyard/error.h"

namespace switchyard::kernels {

SW_PER_ISA(void, kv_store, (const KvPages&, const PagedRows*, int64_t, const float*, const float*))
SW_PER_ISA(void, paged_attention, (const KvPages&, const PagedRows*, int64_t, int64_t, const float*, float, int64_t, float*))

std::string_view name_of(KvFormat format) noexcept {
  switch (format) {
    case KvFormat::float32: return "float32";
    case KvFormat::bfloat16: return "bfloat16";
    case KvFormat::int8: return "int8";
  }
  return "?";
}

KvFormat parse_kv_format(std::string_view name) {
  for (const KvFormat f : {KvFormat::float32, KvFormat::bfloat16, KvFormat::int8})
    if (name == name_of(f)) return f;
  fail(ErrorKind::usage, "cache format '{}': expected float32, bfloat16 or int8", name);
}

int64_t KvPages::page_bytes(KvFormat format, int64_t heads, int64_t head_dim) noexcept {
  const int64_t number = format == KvFormat::float32 ? 4 : format == KvFormat::bfloat16 ? 2 : 1;
  const int64_t numbers = (2 * head_dim * kPageTokens * number + 63) / 64 * 64;
  return heads * (numbers + (format == KvFormat::int8 ? 2 * kPageTokens * 4 : 0));
}

void kv_store(const KvPages& pages, const PagedRows* parts, int64_t num_parts, const float* k, const float* v) {
  SW_BEST_VARIANT(kv_store)(pages, parts, num_parts, k, v);
}

void paged_attention(const KvPages& pages, const PagedRows* parts, int64_t num_parts, int64_t heads, const float* q, float scale, int64_t window, float* out) {
  SW_BEST_VARIANT(paged_attention)(pages, parts, num_parts, heads, q, scale, window, out);
}

}  // namespace switchyard::kernels
