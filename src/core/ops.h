// Differentiable operations: one torch::autograd::Function each. float32 tensors run on our kernels (src/kernels); any
// other dtype runs on plain ATen, which is the reference path of the tests (float64 finite differences).
#pragma once

#include "kernels/activation.h"
#include "switchyard/dispatch_plan.h"
#include "switchyard/random.h"

#include <torch/types.h>

#include <string>

namespace switchyard {

// Arithmetic of matrix products. Tensors stay float32 in memory; bfloat16 rounds operands on their way into the kernel
// and accumulates in float32.
enum class ComputeType { float32, bfloat16 };

[[nodiscard]] ComputeType parse_compute_type(const std::string& name);  // float32 | bfloat16 (f32, bf16) | auto: bfloat16 where tiles multiply it; Error{config}
[[nodiscard]] const char* name_of(ComputeType type);

// The compute type of products made by this thread while the scope lives; backward uses the type of its forward.
class ComputeScope {
 public:
  explicit ComputeScope(ComputeType type);
  ~ComputeScope();
  ComputeScope(const ComputeScope&) = delete;
  ComputeScope& operator=(const ComputeScope&) = delete;
  [[nodiscard]] static ComputeType current();

 private:
  ComputeType before_;
};

namespace ops {

// x [..., k], weight [n, k], plain or packed (core/packed_parameter.h) -> [..., n].  `exact` keeps float32 arithmetic whatever the scope says (router).
[[nodiscard]] torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, bool exact = false);

// rows [N, k] sorted by expert, offsets [E+1] int64 CPU, weight [E, n, k], plain or packed -> [N, n].
[[nodiscard]] torch::Tensor grouped_linear(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weight);

// phi(z), phi in relu | gelu | gelu_tanh | silu | sigmoid | identity | relu2.
[[nodiscard]] kernels::Activation kernel_activation(const std::string& phi);  // Error{internal} for another name
[[nodiscard]] torch::Tensor activation(const std::string& phi, const torch::Tensor& z);
// z [N, 2f] = (g, u) -> phi(g) * u [N, f].
[[nodiscard]] torch::Tensor gated_activation(const std::string& phi, const torch::Tensor& z);

// x / sqrt(mean(x^2) + eps) * weight over the last dimension (arXiv:1910.07467).
[[nodiscard]] torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps);

// Rotates halves (i, i + c/2) by position (arXiv:2104.09864): x [B, S, H, c], positions [B, S] int64, cos and sin
// [max_positions, c/2] float32.
[[nodiscard]] torch::Tensor rope(const torch::Tensor& x, const torch::Tensor& positions, const torch::Tensor& cos,
                                 const torch::Tensor& sin);

// Causal grouped-query attention: q [B, Sq, H, c], k and v [B, Sk, G, c] -> [B, Sq, H, c]. Query i sees keys up to
// i + Sk - Sq of the same segment; segments [B, Sq] and [B, Sk] int32 may be undefined (all equal); a negative key
// segment hides the key. A query without a visible key gives 0. Without `causal` every query sees all keys of its segment.
// Never makes a [Sq, Sk] matrix (float32 path).
[[nodiscard]] torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                      const torch::Tensor& q_segment, const torch::Tensor& k_segment, double scale, bool causal = true);

// What else attention may be asked for; what is 0, undefined or false does nothing.
struct AttentionOptions {
  double scale = 0;             // of the scores; 0 = 1 / sqrt(c)
  bool causal = true;
  int64_t window = 0;           // a query sees itself and the window - 1 tokens before it
  double logit_cap = 0;         // scores become cap * tanh(score / cap)
  torch::Tensor sinks;          // [H]: a score per head that takes its share of the softmax and gives nothing
  torch::Tensor bias;           // [1 or B, H, Sq, Sk], added to the scores
  // Weights of stick-breaking instead of a softmax (arXiv:2306.04640 section 3.1.2): beta = sigmoid(score), a_ij = beta_ij times the product
  // of (1 - beta_im) over the tokens m behind j: near tokens first, no positions needed, and what is left of the stick is left.
  bool stick_breaking = false;
};
// The same with v [B, Sk, G, cv] of any width. Windows, caps, sinks and biases run on plain ATen and make a [Sq, Sk] matrix per
// head, for some queries at a time.
[[nodiscard]] torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, const torch::Tensor& q_segment,
                                      const torch::Tensor& k_segment, const AttentionOptions& options);

// h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t,  y_t = C_t . h_t + D u_t  (arXiv:2312.00752 section 3.2), h = 0 in front of the first token and
// before tokens that are flagged in `reset`. u, delta [B, S, E], a [E, N], b and c [B, S, N], d [E], reset [B, S] bool or undefined -> y [B, S, E].
[[nodiscard]] torch::Tensor selective_scan(const torch::Tensor& u, const torch::Tensor& delta, const torch::Tensor& a, const torch::Tensor& b,
                                           const torch::Tensor& c, const torch::Tensor& d, const torch::Tensor& reset);
// The same from `state` [B, E, N] float32 on, which becomes the last h. Without gradient.
[[nodiscard]] torch::Tensor selective_scan_step(const torch::Tensor& u, const torch::Tensor& delta, const torch::Tensor& a, const torch::Tensor& b,
                                                const torch::Tensor& c, const torch::Tensor& d, const torch::Tensor& reset, const torch::Tensor& state);

// Loss of each token in nats: logits [T, V], labels [T] int64 -> [T]; 0 where the label is -100.
[[nodiscard]] torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& labels);

// rows[r] = x[row_token[r]] -> [N, d].
[[nodiscard]] torch::Tensor gather_rows(const torch::Tensor& x, const DispatchPlan& plan);
// y[row_token[r]] += weights.flatten()[row_weight_index[r]] * rows[r], float32 sums in row order -> [T, d].
[[nodiscard]] torch::Tensor combine_rows(const torch::Tensor& rows, const torch::Tensor& weights, const DispatchPlan& plan);

// Zeroes elements with probability p and scales the rest by 1 / (1 - p); the mask is a pure function of the stream, so
// that a recomputed forward (activation checkpointing) drops the same elements.
[[nodiscard]] torch::Tensor dropout(const torch::Tensor& x, double p, const RandomStream& stream);

// Softmax, or log sum exp [...], of the last dimension. -inf gets 0; a row of nothing else gets zeros on our kernels, NaN in ATen.
[[nodiscard]] torch::Tensor softmax(const torch::Tensor& x);
[[nodiscard]] torch::Tensor logsumexp(const torch::Tensor& x);

// scores [U, E], ids [U, k] int64, -1 for nobody -> scores of the chosen over their sum, 0 for nobody [U, k].
[[nodiscard]] torch::Tensor chosen_shares(const torch::Tensor& scores, const torch::Tensor& ids);

// Stable top-k of each row: higher first, ties to the lower index, NaN as -inf, -inf never chosen -> [U, k] int64, -1.
[[nodiscard]] torch::Tensor top_k(const torch::Tensor& scores, int64_t k);

}  // namespace ops
}  // namespace switchyard
