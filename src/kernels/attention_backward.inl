// Backward pass. With P = 2^(scores - lse) recomputed, delta_i = <dout_i, out_i>:
//
//   dV_j = sum_i P_ij dout_i      dS_ij = P_ij (<dout_i, v_j> - delta_i)
//   dQ_i = scale * sum_j dS_ij k_j      dK_j = scale * sum_i dS_ij q_i
//
// One task owns one (sequence, kv head) and walks its row blocks in order, so dK and dV need no atomics. When there are
// few pairs the row blocks are dealt to a number of shares that the shape alone decides; shares are added in order.
#include "kernels/attention_common.inl"

namespace switchyard::kernels::SW_ISA {
namespace {

constexpr int64_t kWantedTasks = 16;

// The per-thread arrays of one row block.
struct BackwardScratch {
  float* query;         // [c, kRowLanes], times scale * log2(e)
  float* dout;          // [c, kRowLanes]
  float* dquery;        // [c, kRowLanes]
  float* query_rows;    // [kRowLanes, padded], zero beyond head_dim and beyond the rows
  float* dout_rows;     // [kRowLanes, padded]
  float* probs;         // [kKeyBlock, kRowLanes]
  float* dscores;       // [kKeyBlock, kRowLanes]

  static int64_t floats(int64_t c, int64_t padded) { return (3 * c + 2 * padded + 2 * kKeyBlock) * kRowLanes; }
  BackwardScratch(float* at, int64_t c, int64_t padded)
      : query(at), dout(query + c * kRowLanes), dquery(dout + c * kRowLanes), query_rows(dquery + c * kRowLanes),
        dout_rows(query_rows + padded * kRowLanes), probs(dout_rows + padded * kRowLanes),
        dscores(probs + kKeyBlock * kRowLanes) {}
};

inline void copy_rows(const AttentionShape& s, const HeadRows<const float>& from, const RowBlock& block, int64_t padded,
                      float* to) {
  for (int64_t lane = 0; lane < kRowLanes; ++lane) {
    float* row = to + lane * padded;
    int64_t d = 0;
    if (lane < block.count)
      for (const float* source = lane_row(s, from, block, lane); d < s.head_dim; ++d) row[d] = source[d];
    for (; d < padded; ++d) row[d] = 0.0f;
  }
}

// delta[lane] = <dout, out>; lse2[lane] = lse * log2(e), +inf for rows that see no key: their probabilities become 0.
inline void row_constants(const AttentionShape& s, const HeadRows<const float>& out, const HeadRows<const float>& dout,
                          const float* lse, const RowBlock& block, float* delta, float* lse2) {
  for (int64_t lane = 0; lane < kRowLanes; ++lane) {
    delta[lane] = 0.0f;
    lse2[lane] = kInfinity;
    if (lane >= block.count) continue;
    const float* x = lane_row(s, out, block, lane);
    const float* dx = lane_row(s, dout, block, lane);
    Floats sum{};
    int64_t d = 0;
    for (; d + kLanes <= s.head_dim; d += kLanes) sum += load(x + d) * load(dx + d);
    if (d < s.head_dim) sum += load_first(x + d, s.head_dim - d) * load_first(dx + d, s.head_dim - d);
    delta[lane] = sum_lanes(sum);
    const float value = lse[(block.sequence * s.heads + block.head[lane]) * s.queries + block.query[lane]];
    lse2[lane] = value == -kInfinity ? kInfinity : value * kLog2E;
  }
}

// probs holds scores on entry; afterwards probs = P and dscores = P * (dP - delta), dP being what dscores held.
inline void probs_and_dscores(int64_t count, const float* delta, const float* lse2, float* probs, float* dscores) {
  Floats d[kRowVectors], l[kRowVectors];
  for (int v = 0; v < kRowVectors; ++v) d[v] = load(delta + v * kLanes), l[v] = load(lse2 + v * kLanes);
  for (int64_t j = 0; j < count; ++j)
#pragma GCC unroll 2
    for (int v = 0; v < kRowVectors; ++v) {
      const int64_t at = j * kRowLanes + v * kLanes;
      const Floats p = exp2_fast(load(probs + at) - l[v]);
      store(probs + at, p);
      store(dscores + at, p * (load(dscores + at) - d[v]));
    }
}

// to [count, padded] += a [count, kRowLanes] * rows [kRowLanes, padded]
inline void add_rows(int64_t count, const float* a, const float* rows, int64_t padded, float* to) {
  int64_t d = 0;
  for (; d + 2 * kLanes <= padded; d += 2 * kLanes)
    product<2, Start::add>(count, a, kRowLanes, 1, rows + d, padded, to + d, padded, kRowLanes);
  if (d < padded) product<1, Start::add>(count, a, kRowLanes, 1, rows + d, padded, to + d, padded, kRowLanes);
}

struct BackwardInputs {
  HeadRows<const float> q, k, v, out, dout;
  const float* lse;
};

// Adds what one block of rows contributes to dk and dv [keys, padded] (dk without its factor) and writes its dq.
inline void backward_block(const AttentionShape& s, const BackwardInputs& in, const RowBlock& block, int64_t kv_head,
                           int64_t padded, float* scratch, float* dk, float* dv, const HeadRows<float>& dq) {
  const int64_t c = s.head_dim;
  const BackwardScratch at(scratch, c, padded);
  float delta[kRowLanes], lse2[kRowLanes];
  rows_to_lanes(s, in.q, block, s.scale * kLog2E, at.query);
  rows_to_lanes(s, in.dout, block, 1.0f, at.dout);
  copy_rows(s, in.q, block, padded, at.query_rows);
  copy_rows(s, in.dout, block, padded, at.dout_rows);
  row_constants(s, in.out, in.dout, in.lse, block, delta, lse2);
  for (int64_t i = 0; i < c * kRowLanes; ++i) at.dquery[i] = 0.0f;

  const float* keys = head_rows(s, in.k, block.sequence, kv_head);
  const float* values = head_rows(s, in.v, block.sequence, kv_head);
  const int64_t end = block.most_last + 1 < s.keys ? block.most_last + 1 : s.keys;
  for (int64_t j = 0; j < end; j += kKeyBlock) {
    const int64_t count = end - j < kKeyBlock ? end - j : kKeyBlock;
    const Visible visible = visibility(s, block, j, count);
    if (visible == Visible::none) continue;
    const float* key = keys + j * in.k.token_stride;
    product<kRowVectors, Start::zero>(count, key, in.k.token_stride, 1, at.query, kRowLanes, at.probs, kRowLanes, c);
    product<kRowVectors, Start::zero>(count, values + j * in.v.token_stride, in.v.token_stride, 1, at.dout, kRowLanes,
                                      at.dscores, kRowLanes, c);
    if (visible == Visible::some) hide(s, block, j, count, at.probs);
    probs_and_dscores(count, delta, lse2, at.probs, at.dscores);
    add_rows(count, at.probs, at.dout_rows, padded, dv + j * padded);
    add_rows(count, at.dscores, at.query_rows, padded, dk + j * padded);
    product<kRowVectors, Start::add>(c, key, 1, in.k.token_stride, at.dscores, kRowLanes, at.dquery, kRowLanes, count);
  }
  const Floats factor[kRowVectors] = {splat(s.scale), splat(s.scale)};
  lanes_to_rows(s, at.dquery, factor, block, dq);
}

// dk and dv of one (sequence, kv head): the shares' [keys, padded] arrays added in order.
inline void write_key_gradients(const AttentionShape& s, int64_t pair, int64_t shares, int64_t padded, const float* sums,
                                const AttentionGradients& to) {
  const int64_t size = s.keys * padded, sequence = pair / s.kv_heads, kv_head = pair % s.kv_heads;
  for (int64_t j = 0; j < s.keys; ++j) {
    float* dk = head_rows(s, to.dk, sequence, kv_head) + j * to.dk.token_stride;
    float* dv = head_rows(s, to.dv, sequence, kv_head) + j * to.dv.token_stride;
    const float* from = sums + j * padded;
    for (int64_t d = 0; d < s.head_dim; ++d) {
      float k_sum = from[d], v_sum = from[size + d];
      for (int64_t share = 1; share < shares; ++share) {
        k_sum += from[2 * share * size + d];
        v_sum += from[(2 * share + 1) * size + d];
      }
      dk[d] = s.scale * k_sum;
      dv[d] = v_sum;
    }
  }
}

}  // namespace

void attention_backward(const AttentionShape& s, HeadRows<const float> q, HeadRows<const float> k, HeadRows<const float> v,
                        HeadRows<const float> out, const float* lse, HeadRows<const float> dout,
                        const AttentionGradients& gradients) noexcept {
  const int64_t padded = round_up(s.head_dim, kLanes), size = s.keys * padded;
  const int64_t rows = s.queries * (s.heads / s.kv_heads), blocks = (rows + kRowLanes - 1) / kRowLanes;
  const int64_t pairs = s.batch * s.kv_heads;
  int64_t shares = pairs == 0 ? 1 : (kWantedTasks + pairs - 1) / pairs;
  if (shares > (blocks + 3) / 4) shares = (blocks + 3) / 4;
  if (shares < 1) shares = 1;
  const BackwardInputs in{q, k, v, out, dout, lse};
  const int64_t block_floats = BackwardScratch::floats(s.head_dim, padded);
  // (dk, dv) [keys, padded] of every share; a task that has its pair to itself keeps them in its thread's own cache.
  float* shared = shares > 1 ? thread_scratch(ScratchUse::shared, pairs * shares * 2 * size) : nullptr;
#pragma omp parallel for schedule(dynamic) if (pairs * shares > 1)
  for (int64_t task = 0; task < pairs * shares; ++task) {
    const int64_t pair = task / shares;
    float* scratch = thread_scratch(ScratchUse::own, block_floats + (shared ? 0 : 2 * size));
    float* dk = shared ? shared + task * 2 * size : scratch + block_floats;
    for (int64_t i = 0; i < 2 * size; ++i) dk[i] = 0.0f;
    for (int64_t n = task % shares; n < blocks; n += shares) {
      const RowBlock block = row_block(s, pair / s.kv_heads, pair % s.kv_heads, n * kRowLanes);
      backward_block(s, in, block, pair % s.kv_heads, padded, scratch, dk, dk + size, gradients.dq);
    }
    if (!shared) write_key_gradients(s, pair, 1, padded, dk, gradients);
  }
  if (!shared) return;
#pragma omp parallel for schedule(static)
  for (int64_t pair = 0; pair < pairs; ++pair)
    write_key_gradients(s, pair, shares, padded, shared + pair * shares * 2 * size, gradients);
}

}  // namespace switchyard::kernels::SW_ISA
