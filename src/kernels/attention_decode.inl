// Forward pass for a few queries against many keys, as in generation with a cache: bound by the reading of k and v.
// Lanes hold head dimensions; keys are cut into fixed chunks that run in parallel and are combined in order, so that the
// result does not depend on the number of threads.
#include "kernels/attention_common.inl"

namespace switchyard::kernels::SW_ISA {
namespace {

constexpr int64_t kDecodeChunk = 512;  // keys
constexpr int kDecodeRows = 4;         // query rows that share one reading of a key

// What a chunk of keys gives for one row: largest score and sum of powers (base 2), and the unnormalised output.
struct Partial {
  float largest, sum;
};

// scores[j] = <query, key j>; kLanes keys at a time, whose sums are joined into one vector. query is zero from c to its
// next multiple of kLanes.
inline void decode_scores(const float* query, const float* keys, int64_t stride, int64_t count, int64_t c, float* scores) {
  const int64_t whole = c / kLanes * kLanes;
  for (int64_t j = 0; j < count; j += kLanes) {
    const float* key[kLanes];  // beyond the end: the last key again
    for (int64_t i = 0; i < kLanes; ++i) key[i] = keys + (j + i < count ? j + i : count - 1) * stride;
    Floats sum[kLanes] = {};
    for (int64_t d = 0; d < whole; d += kLanes) {
      const Floats x = load(query + d);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) sum[i] += x * load(key[i] + d);
    }
    if (whole < c) {
      const Floats x = load(query + whole);
      for (int i = 0; i < kLanes; ++i) sum[i] += x * load_first(key[i] + whole, c - whole);
    }
    store(scores + j, sum_each(sum));
  }
}

// out[i * padded + d] = sum_j p[i * kDecodeChunk + j] * value j [d] for R rows and lanes d .. d + kLanes - 1.
template <int R>
inline void decode_values(const float* p, const float* values, int64_t stride, int64_t count, int64_t c, int64_t padded,
                          float* out) {
  int64_t d = 0;
  for (; d + 4 * kLanes <= c; d += 4 * kLanes)
    tile<R, 4, Start::zero>(p, kDecodeChunk, 1, values + d, stride, out + d, padded, count, nullptr);
  for (; d + 2 * kLanes <= c; d += 2 * kLanes)
    tile<R, 2, Start::zero>(p, kDecodeChunk, 1, values + d, stride, out + d, padded, count, nullptr);
  for (; d + kLanes <= c; d += kLanes)
    tile<R, 1, Start::zero>(p, kDecodeChunk, 1, values + d, stride, out + d, padded, count, nullptr);
  if (d == c) return;
  Floats sum[R] = {};
  for (int64_t j = 0; j < count; ++j) {
    const Floats x = load_first(values + j * stride + d, c - d);
    for (int i = 0; i < R; ++i) sum[i] += p[i * kDecodeChunk + j] * x;
  }
  for (int i = 0; i < R; ++i) store(out + i * padded + d, sum[i]);
}

// Hides what the row may not see, then turns its scores into powers of two relative to the largest.
inline Partial decode_softmax(const AttentionShape& s, int64_t sequence, int64_t query, int64_t first, int64_t count,
                              float* scores) {
  const int64_t last = s.causal ? query + s.keys - s.queries : s.keys - 1;
  for (int64_t j = last - first + 1 < 0 ? 0 : last - first + 1; j < count; ++j) scores[j] = -kInfinity;
  if (s.k_segment) {
    const int32_t* segment = s.k_segment + sequence * s.keys + first;
    const int32_t own = s.q_segment[sequence * s.queries + query];
    for (int64_t j = 0; j < count; ++j) scores[j] = segment[j] == own && own >= 0 ? scores[j] : -kInfinity;
  }
  int64_t padded = count;
  for (; padded % kLanes != 0; ++padded) scores[padded] = -kInfinity;
  Floats top = splat(-kInfinity);
  for (int64_t j = 0; j < padded; j += kLanes) top = max(load(scores + j), top);
  const float largest = max_lanes(top), base = largest == -kInfinity ? 0.0f : largest;
  Floats sum{};
  for (int64_t j = 0; j < padded; j += kLanes) {
    const Floats p = exp2_fast(load(scores + j) - base);
    store(scores + j, p);
    sum += p;
  }
  return {largest, sum_lanes(sum)};
}

struct DecodeRow {
  int64_t query, head;
};

inline DecodeRow decode_row(const AttentionShape& s, int64_t kv_head, int64_t row) {
  const int64_t group = s.heads / s.kv_heads;
  return {row / group, kv_head * group + row % group};
}

// One chunk of keys for all rows of one (sequence, kv head). own: kDecodeRows * (padded + kDecodeChunk) floats;
// sums [rows, padded]; partial [rows].
inline void decode_chunk(const AttentionShape& s, const HeadRows<const float>& q, const HeadRows<const float>& k,
                         const HeadRows<const float>& v, int64_t sequence, int64_t kv_head, int64_t first, float* own,
                         float* sums, Partial* partial) {
  const int64_t c = s.head_dim, padded = round_up(c, kLanes), rows = s.queries * (s.heads / s.kv_heads);
  const int64_t count = s.keys - first < kDecodeChunk ? s.keys - first : kDecodeChunk;
  const float* keys = head_rows(s, k, sequence, kv_head) + first * k.token_stride;
  const float* values = head_rows(s, v, sequence, kv_head) + first * v.token_stride;
  float* scores = own + kDecodeRows * padded;
  for (int64_t row = 0; row < rows;) {
    const int64_t some = rows - row >= kDecodeRows ? kDecodeRows : 1;
    for (int64_t i = 0; i < some; ++i) {
      const DecodeRow at = decode_row(s, kv_head, row + i);
      const float* query = q.data + sequence * q.sequence_stride + at.query * q.token_stride + at.head * c;
      for (int64_t d = 0; d < padded; ++d) own[i * padded + d] = d < c ? query[d] * (s.scale * kLog2E) : 0.0f;
    }
    for (int64_t i = 0; i < some; ++i) {
      float* row_scores = scores + i * kDecodeChunk;
      decode_scores(own + i * padded, keys, k.token_stride, count, c, row_scores);
      partial[row + i] = decode_softmax(s, sequence, decode_row(s, kv_head, row + i).query, first, count, row_scores);
    }
    some == 1 ? decode_values<1>(scores, values, v.token_stride, count, c, padded, sums + row * padded)
              : decode_values<kDecodeRows>(scores, values, v.token_stride, count, c, padded, sums + row * padded);
    row += some;
  }
}

// Joins the chunks of one row in order and writes its output and lse. Chunks are `sum_stride` and `partial_stride` apart.
inline void combine_chunks(int64_t c, int64_t chunks, const float* sums, int64_t sum_stride, const Partial* partial,
                           int64_t partial_stride, float* out, float* lse) {
  float largest = -kInfinity;
  for (int64_t n = 0; n < chunks; ++n) {
    const float here = partial[n * partial_stride].largest;
    largest = here > largest ? here : largest;
  }
  const float base = largest == -kInfinity ? 0.0f : largest;
  float total = 0.0f;
  for (int64_t d = 0; d < c; ++d) out[d] = 0.0f;
  for (int64_t n = 0; n < chunks; ++n) {
    const Partial& part = partial[n * partial_stride];
    const float factor = exp2_fast(splat(part.largest - base))[0];
    total += factor * part.sum;
    for (int64_t d = 0; d < c; ++d) out[d] += factor * sums[n * sum_stride + d];
  }
  const float inverse = total == 0.0f ? 0.0f : 1.0f / total;
  for (int64_t d = 0; d < c; ++d) out[d] *= inverse;
  if (lse) *lse = total == 0.0f ? -kInfinity : (largest + log2_fast(splat(total))[0]) * kLn2;
}

}  // namespace

void attention_decode(const AttentionShape& s, HeadRows<const float> q, HeadRows<const float> k, HeadRows<const float> v,
                      HeadRows<float> out, float* lse) noexcept {
  const int64_t padded = round_up(s.head_dim, kLanes), rows = s.queries * (s.heads / s.kv_heads);
  const int64_t chunks = (s.keys + kDecodeChunk - 1) / kDecodeChunk, pairs = s.batch * s.kv_heads;
  float* sums = thread_scratch(ScratchUse::shared, pairs * chunks * rows * (padded + 2));  // [pairs, chunks, rows, padded]
  Partial* partial = reinterpret_cast<Partial*>(sums + pairs * chunks * rows * padded);    // [pairs, chunks, rows]
  // Below this many products the work is shorter than the waking of the threads.
#pragma omp parallel for schedule(static) if (pairs * s.keys * s.head_dim * rows > 32768)
  for (int64_t task = 0; task < pairs * chunks; ++task) {
    const int64_t pair = task / chunks;
    float* own = thread_scratch(ScratchUse::own, kDecodeRows * (padded + kDecodeChunk));
    decode_chunk(s, q, k, v, pair / s.kv_heads, pair % s.kv_heads, task % chunks * kDecodeChunk, own,
                 sums + task * rows * padded, partial + task * rows);
  }
  for (int64_t pair = 0; pair < pairs; ++pair)
    for (int64_t row = 0; row < rows; ++row) {
      const DecodeRow at = decode_row(s, pair % s.kv_heads, row);
      const int64_t sequence = pair / s.kv_heads, first = pair * chunks * rows + row;
      combine_chunks(s.head_dim, chunks, sums + first * padded, rows * padded, partial + first, rows,
                     out.data + sequence * out.sequence_stride + at.query * out.token_stride + at.head * s.head_dim,
                     lse ? lse + (sequence * s.heads + at.head) * s.queries + at.query : nullptr);
    }
}

}  // namespace switchyard::kernels::SW_ISA
