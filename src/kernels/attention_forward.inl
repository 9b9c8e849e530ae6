// Forward pass for many queries: one task per block of rows, streaming over blocks of keys.
#include "kernels/attention_common.inl"

namespace switchyard::kernels::SW_ISA {
namespace {

struct RunningSoftmax {
  Floats largest[kRowVectors], sum[kRowVectors];  // of the keys seen so far; powers of two, not of e
};

// scores [count, kRowLanes] -> 2^(scores - largest), after `largest` has taken them in; `decay` rescales what was summed
// before.
[[gnu::noinline]] void softmax_step(float* scores, int64_t count, RunningSoftmax& running, Floats* decay) {
  for (int v = 0; v < kRowVectors; ++v) {
    float* column = scores + v * kLanes;
    Floats top[4] = {running.largest[v], running.largest[v], running.largest[v], running.largest[v]};
    int64_t j = 0;
    for (; j + 4 <= count; j += 4)
#pragma GCC unroll 4
      for (int u = 0; u < 4; ++u) top[u] = max(load(column + (j + u) * kRowLanes), top[u]);
    for (; j < count; ++j) top[0] = max(load(column + j * kRowLanes), top[0]);
    const Floats largest = max(max(top[0], top[1]), max(top[2], top[3]));
    const Floats base = select(largest == -kInfinity, Floats{}, largest);  // nothing visible yet: avoid inf - inf
    decay[v] = exp2_fast(running.largest[v] - base);
    Floats sum[2] = {};
    for (j = 0; j + 2 <= count; j += 2)
#pragma GCC unroll 2
      for (int u = 0; u < 2; ++u) {
        const Floats p = exp2_fast(load(column + (j + u) * kRowLanes) - base);
        store(column + (j + u) * kRowLanes, p);
        sum[u] += p;
      }
    if (j < count) {
      const Floats p = exp2_fast(load(column + j * kRowLanes) - base);
      store(column + j * kRowLanes, p);
      sum[0] += p;
    }
    running.sum[v] = running.sum[v] * decay[v] + (sum[0] + sum[1]);
    running.largest[v] = largest;
  }
}

inline void write_lse(const AttentionShape& s, const RowBlock& block, const RunningSoftmax& running, float* lse) {
  float value[kRowLanes];
  for (int v = 0; v < kRowVectors; ++v)
    store(value + v * kLanes, select(running.sum[v] == 0.0f, splat(-kInfinity),
                                     (running.largest[v] + log2_fast(running.sum[v])) * kLn2));
  for (int64_t lane = 0; lane < block.count; ++lane)
    lse[(block.sequence * s.heads + block.head[lane]) * s.queries + block.query[lane]] = value[lane];
}

// scratch: head_dim * 2 + kKeyBlock rows of kRowLanes.
inline void forward_block(const AttentionShape& s, const HeadRows<const float>& q, const HeadRows<const float>& k,
                          const HeadRows<const float>& v, const HeadRows<float>& out, float* lse, const RowBlock& block,
                          int64_t kv_head, float* scratch) {
  const int64_t c = s.head_dim;
  float* query = scratch;                    // [c, kRowLanes], times scale * log2(e)
  float* sum = query + c * kRowLanes;        // [c, kRowLanes]
  float* scores = sum + c * kRowLanes;       // [kKeyBlock, kRowLanes]
  const float* keys = head_rows(s, k, block.sequence, kv_head);
  const float* values = head_rows(s, v, block.sequence, kv_head);
  rows_to_lanes(s, q, block, s.scale * kLog2E, query);

  RunningSoftmax running;
  for (int i = 0; i < kRowVectors; ++i) running.largest[i] = splat(-kInfinity), running.sum[i] = Floats{};
  bool started = false;
  const int64_t end = block.most_last + 1 < s.keys ? block.most_last + 1 : s.keys;
  for (int64_t j = 0; j < end; j += kKeyBlock) {
    const int64_t count = end - j < kKeyBlock ? end - j : kKeyBlock;
    const Visible visible = visibility(s, block, j, count);
    if (visible == Visible::none) continue;
    product<kRowVectors, Start::zero>(count, keys + j * k.token_stride, k.token_stride, 1, query, kRowLanes, scores,
                                      kRowLanes, c);
    if (visible == Visible::some) hide(s, block, j, count, scores);
    Floats decay[kRowVectors];
    softmax_step(scores, count, running, decay);
    const float* value = values + j * v.token_stride;
    if (started)
      product<kRowVectors, Start::scaled>(c, value, 1, v.token_stride, scores, kRowLanes, sum, kRowLanes, count, decay);
    else
      product<kRowVectors, Start::zero>(c, value, 1, v.token_stride, scores, kRowLanes, sum, kRowLanes, count);
    started = true;
  }
  if (!started)
    for (int64_t i = 0; i < c * kRowLanes; ++i) sum[i] = 0.0f;
  Floats inverse[kRowVectors];
  for (int i = 0; i < kRowVectors; ++i) inverse[i] = select(running.sum[i] == 0.0f, Floats{}, 1.0f / running.sum[i]);
  lanes_to_rows(s, sum, inverse, block, out);
  if (lse) write_lse(s, block, running, lse);
}

}  // namespace

void attention_forward(const AttentionShape& s, HeadRows<const float> q, HeadRows<const float> k, HeadRows<const float> v,
                       HeadRows<float> out, float* lse) noexcept {
  const int64_t rows = s.queries * (s.heads / s.kv_heads);
  const int64_t blocks = (rows + kRowLanes - 1) / kRowLanes, tasks = s.batch * s.kv_heads * blocks;
  // Later blocks see more keys: they go first, so that the last task to finish is a short one.
#pragma omp parallel for schedule(dynamic) if (tasks > 1)
  for (int64_t task = 0; task < tasks; ++task) {
    const int64_t pair = task / blocks, first = (blocks - 1 - task % blocks) * kRowLanes;
    float* scratch = thread_scratch(ScratchUse::own, (2 * s.head_dim + kKeyBlock) * kRowLanes);
    const RowBlock block = row_block(s, pair / s.kv_heads, pair % s.kv_heads, first);
    forward_block(s, q, k, v, out, lse, block, pair % s.kv_heads, scratch);
  }
}

}  // namespace switchyard::kernels::SW_ISA
