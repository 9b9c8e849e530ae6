// LSTM cells as experts, and stacks with Mixture-of-Experts layers between them (arXiv:1701.06538 section 3 and appendix C).
//
//   i, f, o = sigmoid(x W^T + h R^T + b)   g = tanh(...)   c' = f c + i g   h' = o tanh(c')
//
// Each expert has a cell of its own and a state per sequence, which moves at the steps that are routed to it and at no other; with
// `always_step` all states move at every step and only the output is masked. Gate: noisy top-k, H = x W_g + N(0, 1) softplus(x W_noise).
#pragma once

#include "switchyard/moe.h"
#include "switchyard/random.h"

#include <torch/nn/module.h>

#include <vector>

namespace switchyard::vision {

// Stacked cells: weights of all experts in one tensor each.
class LstmCells final : public torch::nn::Module {
 public:
  struct State {
    torch::Tensor h, c;  // [N, B, hidden]
  };
  LstmCells(int64_t cells, int64_t d, int64_t hidden, const RandomStream& random);

  [[nodiscard]] State zero_state(int64_t batch) const;
  // One step of cell n for rows `who` [m] of the batch: x [m, d] -> h [m, hidden] and the state with these rows replaced; all other rows
  // keep their bits.
  [[nodiscard]] torch::Tensor step(int64_t n, const torch::Tensor& x, const torch::Tensor& who, State& state) const;
  [[nodiscard]] int64_t cells() const { return in_.size(0); }
  [[nodiscard]] int64_t hidden() const { return recurrent_.size(2); }

 private:
  torch::Tensor in_, recurrent_, bias_;  // [N, 4 hidden, d], [N, 4 hidden, hidden], [N, 4 hidden]: i, f, g, o
};

// A plain layer: one cell over a sequence, x [B, T, d] -> [B, T, hidden].
[[nodiscard]] torch::Tensor run_cell(const LstmCells& cells, int64_t n, const torch::Tensor& x);

// Recurrent experts behind a noisy top-k gate: x [B, T, d] -> [B, T, hidden].
class RecurrentExperts final : public torch::nn::Module {
 public:
  struct Options {
    int64_t experts = 8, k = 2, hidden = 32;
    bool always_step = false;
  };
  struct Trace {
    torch::Tensor chosen;  // [B, T, k] int64
    LstmCells::State state;  // at the end
  };
  RecurrentExperts(const Options& options, int64_t d, uint64_t seed);
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& x, int64_t step = 0, Trace* trace = nullptr);
  [[nodiscard]] LstmCells& cells() { return *cells_; }

 private:
  Options options_;
  uint64_t seed_;
  std::shared_ptr<Gate> gate_;
  std::shared_ptr<LstmCells> cells_;
};

// embedding -> LSTM -> dropout -> experts -> dropout -> LSTM -> logits. Between the LSTMs: nothing, feed-forward experts at all time steps
// at once with the residual x + sigmoid(MoE(x)), or recurrent experts with the residual x + y.
class LstmModel final : public torch::nn::Module {
 public:
  struct Options {
    int64_t vocab = 32, hidden = 32, experts = 16, k = 2, d_expert = 64;
    std::string between = "feed_forward";  // none | feed_forward | recurrent
    double dropout = 0.1, balance = 0.1;   // weight of importance and load
  };
  LstmModel(const Options& options, uint64_t seed);

  struct Output {
    torch::Tensor logits;  // [B, T, vocab]
    torch::Tensor aux_loss;
  };
  [[nodiscard]] Output forward(const torch::Tensor& ids, int64_t step = 0);
  // The layer of feed-forward experts on its own, [B, T, hidden]; null unless there is one.
  [[nodiscard]] MoELayer* layer() { return moe_.get(); }

 private:
  Options options_;
  uint64_t seed_;
  torch::Tensor embed_, head_;
  std::shared_ptr<LstmCells> first_, second_;
  std::shared_ptr<MoELayer> moe_;
  std::shared_ptr<RecurrentExperts> recurrent_;
};

}  // namespace switchyard::vision
