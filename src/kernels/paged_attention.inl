#include "kernels/paged_attention.h"
#include "kernels/scratch.h"
#include "kernels/simd.h"

namespace switchyard::kernels::SW_ISA {
namespace {

using Words = uint32_t __attribute__((vector_size(kLanes * 4)));
using HalfWords = uint16_t __attribute__((vector_size(kLanes * 2)));
using HalfWordsAnywhere = uint16_t __attribute__((vector_size(kLanes * 2), aligned(1), may_alias));
using Bytes = int8_t __attribute__((vector_size(kLanes)));
using BytesAnywhere = int8_t __attribute__((vector_size(kLanes), aligned(1), may_alias));

// How numbers are stored. `widen` reads kLanes of them.
struct AsFloat {
  static constexpr int64_t kBytes = 4;
  static Floats widen(const char* p) { return load(reinterpret_cast<const float*>(p)); }
  static void put(char* p, float x) { __builtin_memcpy(p, &x, 4); }
};

struct AsBfloat16 {
  static constexpr int64_t kBytes = 2;
  static Floats widen(const char* p) {
    return reinterpret_cast<Floats>(__builtin_convertvector(*reinterpret_cast<const HalfWordsAnywhere*>(p), Words) << 16);
  }
  static void put(char* p, float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    bits = x != x ? bits | 0x00400000u : bits + 0x7fffu + (bits >> 16 & 1u);  // keep NaN when its payload is cut off
    const auto half = static_cast<uint16_t>(bits >> 16);
    __builtin_memcpy(p, &half, 2);
  }
};

struct AsInt8 {
  static constexpr int64_t kBytes = 1;
  static Floats widen(const char* p) { return __builtin_convertvector(*reinterpret_cast<const BytesAnywhere*>(p), Floats); }
  static void put(char* p, float q) { *p = static_cast<char>(static_cast<int8_t>(q < 0 ? q - 0.5f : q + 0.5f)); }
};

// A head of a page: keys [c][16], values [16][c], and for int8 the scales of 16 keys and 16 values.
template <class Number>
struct PageHead {
  char* data;
  int64_t c;

  PageHead(const KvPages& pages, int64_t page_bytes, int32_t page, int64_t head)
      : data(pages.data + page * page_bytes + head * (page_bytes / pages.heads)), c(pages.head_dim) {}
  [[nodiscard]] char* key(int64_t i, int64_t token) const { return data + (i * kPageTokens + token) * Number::kBytes; }
  [[nodiscard]] char* value(int64_t token, int64_t i) const { return data + (c * kPageTokens + token * c + i) * Number::kBytes; }
  [[nodiscard]] float* scales() const { return reinterpret_cast<float*>(data + (2 * c * kPageTokens * Number::kBytes + 63) / 64 * 64); }
};

inline float largest_magnitude(const float* x, int64_t n) {
  float most = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float a = x[i] < 0 ? -x[i] : x[i];
    if (a != a) return a;
    most = a > most ? a : most;
  }
  return most;
}

template <class Number>
void store_token(const PageHead<Number>& to, int64_t token, const float* k, const float* v) {
  float k_inverse = 1, v_inverse = 1;
  if constexpr (Number::kBytes == 1) {
    const float k_most = largest_magnitude(k, to.c), v_most = largest_magnitude(v, to.c);
    to.scales()[token] = k_most / 127.0f;
    to.scales()[kPageTokens + token] = v_most / 127.0f;
    k_inverse = k_most > 0 && k_most < 3e38f ? 127.0f / k_most : 0.0f;
    v_inverse = v_most > 0 && v_most < 3e38f ? 127.0f / v_most : 0.0f;
    for (int64_t i = 0; i < to.c; ++i) {
      Number::put(to.key(i, token), k_inverse == 0 ? 0 : k[i] * k_inverse);
      Number::put(to.value(token, i), v_inverse == 0 ? 0 : v[i] * v_inverse);
    }
    return;
  }
  for (int64_t i = 0; i < to.c; ++i) {
    Number::put(to.key(i, token), k[i]);
    Number::put(to.value(token, i), v[i]);
  }
}

template <class Number>
void store(const KvPages& pages, const PagedRows* parts, int64_t num_parts, const float* k, const float* v) {
  const int64_t page_bytes = KvPages::page_bytes(pages.format, pages.heads, pages.head_dim), width = pages.heads * pages.head_dim;
  for (int64_t n = 0; n < num_parts; ++n) {
    const PagedRows& part = parts[n];
    // Pages are written whole by one thread: two threads never share one.
    const int64_t first_page = part.first / kPageTokens, last_page = (part.first + part.rows - 1) / kPageTokens;
#pragma omp parallel for collapse(2) schedule(static) if (part.rows * width > 16384)
    for (int64_t page = first_page; page <= last_page; ++page)
      for (int64_t head = 0; head < pages.heads; ++head) {
        const PageHead<Number> to(pages, page_bytes, part.pages[page], head);
        const int64_t begin = page * kPageTokens > part.first ? page * kPageTokens : part.first;
        const int64_t after = (page + 1) * kPageTokens, last = part.first + part.rows, end = after < last ? after : last;
        for (int64_t position = begin; position < end; ++position) {
          const int64_t from = (part.row + position - part.first) * width + head * pages.head_dim;
          store_token(to, position % kPageTokens, k + from, v + from);
        }
      }
  }
}

// Scores of 16 tokens of a page for one query, lane by lane in ascending dimension.
template <class Number>
void page_scores(const PageHead<Number>& page, const float* q, float scale, float* scores) {
  for (int64_t t = 0; t < kPageTokens; t += kLanes) {
    Floats sum{};
    for (int64_t i = 0; i < page.c; ++i) sum += q[i] * Number::widen(page.key(i, t));
    if constexpr (Number::kBytes == 1) sum *= load(page.scales() + t);
    FloatsAnywhere* to = reinterpret_cast<FloatsAnywhere*>(scores + t);
    *to = sum * scale;
  }
}

// e^(score - most) of scores [first, last) in place; others of the whole pages become 0. Returns the sum.
inline float exponentials(float* scores, int64_t first, int64_t last, int64_t whole) {
  float most = -__builtin_inff();
  for (int64_t j = first; j < last; ++j) most = scores[j] > most ? scores[j] : most;
  float sum = 0;
  for (int64_t j = 0; j < whole; j += kLanes) {
    const Ints place = lane_index() + static_cast<int32_t>(j);
    const Ints seen = (place >= static_cast<int32_t>(first)) & (place < static_cast<int32_t>(last));
    const Floats e = select(seen, exp_fast(load(scores + j) - most), Floats{});
    store(scores + j, e);
    sum += sum_lanes(e);
  }
  return sum;
}

template <class Number>
void add_values(const PageHead<Number>& page, const float* p, float* out) {
  float weight[kPageTokens];
  for (int64_t t = 0; t < kPageTokens; ++t) weight[t] = Number::kBytes == 1 ? p[t] * page.scales()[kPageTokens + t] : p[t];
  int64_t i = 0;
  for (; i + kLanes <= page.c; i += kLanes) {
    Floats sum = load(out + i);
    for (int64_t t = 0; t < kPageTokens; ++t)
      if (p[t] != 0) sum += weight[t] * Number::widen(page.value(t, i));  // places without a token hold anything
    store(out + i, sum);
  }
  for (; i < page.c; ++i)
    for (int64_t t = 0; t < kPageTokens; ++t) {
      if (p[t] == 0) continue;
      float value;
      if constexpr (Number::kBytes == 4) {
        __builtin_memcpy(&value, page.value(t, i), 4);
      } else if constexpr (Number::kBytes == 2) {
        uint16_t half;
        __builtin_memcpy(&half, page.value(t, i), 2);
        const uint32_t bits = static_cast<uint32_t>(half) << 16;
        __builtin_memcpy(&value, &bits, 4);
      } else {
        value = static_cast<int8_t>(*page.value(t, i));
      }
      out[i] += weight[t] * value;
    }
}

template <class Number>
void attend_row(const KvPages& pages, const PagedRows& part, int64_t row, int64_t head, int64_t kv_head, int64_t heads, const float* q, float scale,
                int64_t window, float* out) {
  const int64_t page_bytes = KvPages::page_bytes(pages.format, pages.heads, pages.head_dim);
  const int64_t last = part.first + row + 1, first = window > 0 && last > window ? last - window : 0;
  const int64_t first_page = first / kPageTokens, end_page = (last + kPageTokens - 1) / kPageTokens;
  float* const scores = thread_scratch(ScratchUse::own, (end_page - first_page) * kPageTokens);
  const int64_t at = ((part.row + row) * heads + head) * pages.head_dim, shift = first_page * kPageTokens;
  for (int64_t page = first_page; page < end_page; ++page)
    page_scores(PageHead<Number>(pages, page_bytes, part.pages[page], kv_head), q + at, scale, scores + page * kPageTokens - shift);
  const float sum = exponentials(scores, first - shift, last - shift, end_page * kPageTokens - shift);
  for (int64_t i = 0; i < pages.head_dim; ++i) out[at + i] = 0;
  for (int64_t page = first_page; page < end_page; ++page)
    add_values(PageHead<Number>(pages, page_bytes, part.pages[page], kv_head), scores + page * kPageTokens - shift, out + at);
  for (int64_t i = 0; i < pages.head_dim; ++i) out[at + i] /= sum;
}

template <class Number>
void attend(const KvPages& pages, const PagedRows* parts, int64_t num_parts, int64_t heads, const float* q, float scale, int64_t window, float* out) {
  const int64_t per_kv = heads / pages.heads;
  int64_t rows = 0;
  for (int64_t n = 0; n < num_parts; ++n) rows += parts[n].rows;
#pragma omp parallel if (rows * heads > 1)
  for (int64_t n = 0; n < num_parts; ++n) {
    const PagedRows& part = parts[n];
#pragma omp for collapse(2) schedule(dynamic, 4) nowait
    for (int64_t row = 0; row < part.rows; ++row)
      for (int64_t head = 0; head < heads; ++head) attend_row<Number>(pages, part, row, head, head / per_kv, heads, q, scale, window, out);
  }
}

}  // namespace

void kv_store(const KvPages& pages, const PagedRows* parts, int64_t num_parts, const float* k, const float* v) noexcept {
  switch (pages.format) {
    case KvFormat::float32: return store<AsFloat>(pages, parts, num_parts, k, v);
    case KvFormat::bfloat16: return store<AsBfloat16>(pages, parts, num_parts, k, v);
    case KvFormat::int8: return store<AsInt8>(pages, parts, num_parts, k, v);
  }
}

void paged_attention(const KvPages& pages, const PagedRows* parts, int64_t num_parts, int64_t heads, const float* q, float scale, int64_t window,
                     float* out) noexcept {
  switch (pages.format) {
    case KvFormat::float32: return attend<AsFloat>(pages, parts, num_parts, heads, q, scale, window, out);
    case KvFormat::bfloat16: return attend<AsBfloat16>(pages, parts, num_parts, heads, q, scale, window, out);
    case KvFormat::int8: return attend<AsInt8>(pages, parts, num_parts, heads, q, scale, window, out);
  }
}

}  // namespace switchyard::kernels::SW_ISA
