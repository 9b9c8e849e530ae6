// Causal grouped-query attention that never holds a [queries, keys] matrix:
//
//   out[b,i,h,:] = sum_j p_ij v[b,j,g,:],   p_i = softmax over the visible j of  scale * <q[b,i,h,:], k[b,j,g,:]>
//   lse[b,h,i]   = log sum_j exp(scale * <q, k>),   g = h / (heads / kv_heads)
//
// The softmax streams over blocks of keys with a running maximum and sum; the backward pass recomputes p from lse
// (Dao et al., arXiv:2205.14135, algorithms 1 and 4; Dao, arXiv:2307.08691). A query that sees no key gets 0 and lse = -inf.
// Results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "kernels/strided.h"

namespace switchyard::kernels {

struct AttentionShape {
  int64_t batch, queries, keys;
  int64_t heads, kv_heads;  // heads is a multiple of kv_heads
  int64_t head_dim;
  float scale;
  bool causal = true;  // query i sees key j only if j <= i + keys - queries: with a cache the queries are the last tokens
  // Packed documents and padding: if given (both or none), a query sees a key only if their segments are equal and not negative.
  const int32_t* q_segment = nullptr;  // [B, queries]
  const int32_t* k_segment = nullptr;  // [B, keys]
};

// q, out: [B, queries, heads, head_dim];  k, v: [B, keys, kv_heads, head_dim];  lse: [B, heads, queries], or null if there
// will be no backward pass. out must not overlap the inputs.
void attention_forward(const AttentionShape& shape, HeadRows<const float> q, HeadRows<const float> k,
                       HeadRows<const float> v, HeadRows<float> out, float* lse);

// Writes dq, dk and dv (shapes and head layout of q, k, v) from out, lse and dout = dL/dout. dq, dk, dv must not overlap
// the inputs.
struct AttentionGradients {
  HeadRows<float> dq, dk, dv;
};
void attention_backward(const AttentionShape& shape, HeadRows<const float> q, HeadRows<const float> k,
                        HeadRows<const float> v, HeadRows<const float> out, const float* lse,
                        HeadRows<const float> dout, const AttentionGradients& gradients);

}  // namespace switchyard::kernels
