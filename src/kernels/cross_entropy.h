// Cross-entropy of labels under the softmax of logits:
//
//   lse[t] = log sum_v exp(logits[t,v])      loss[t] = weight[t] * (lse[t] - logits[t, label[t]])
//
// A negative label (-100 by custom) is ignored: loss 0, gradient 0.
#pragma once

#include <cstdint>

#include "kernels/strided.h"

namespace switchyard::kernels {

// The first token whose label is vocab_size or more, which the functions below must not be given; -1 if there is none.
[[nodiscard]] int64_t first_label_outside(int64_t tokens, int64_t vocab_size, const int64_t* labels) noexcept;

// logits [tokens, vocab_size]; labels [tokens]; weight [tokens], or null for 1; loss, lse [tokens].
void cross_entropy_forward(int64_t tokens, int64_t vocab_size, MatrixRows<const float> logits, const int64_t* labels,
                           const float* weight, float* loss, float* lse);

// dlogits[t,v] = scale * weight[t] * (exp(logits[t,v] - lse[t]) - [v == label[t]]). dlogits may be logits.
void cross_entropy_backward(int64_t tokens, int64_t vocab_size, MatrixRows<const float> logits, const int64_t* labels,
                            const float* weight, const float* lse, float scale, MatrixRows<float> dlogits);

}  // namespace switchyard::kernels
