// Copies of one transformer block as a bank of experts. Rows are tokens of a batch [B, S]: a copy gets those that chose it back
// into their rows of text, so that its attention sees the tokens before them. A token that chose another copy is hidden from it.
// All tokens of a sequence must have chosen the copy, or none: what would a copy make of half a text?
#pragma once

#include "models/block.h"

namespace switchyard {

class CopiesBank final : public ExpertBank {
 public:
  // Copy i of layer `layer`: a block of its own seed, so that no two copies begin alike.
  CopiesBank(const ModelSpec& copy, int64_t layer, int64_t num_copies, std::optional<uint64_t> seed);

  // The batch that rows belong to, for as long as the object lives: an ExpertBank hears of rows alone.
  class Batch {
   public:
    Batch(CopiesBank& bank, const CallContext& call, LayerCache* cache) : bank_(bank) { bank.call_ = &call, bank.cache_ = cache; }
    ~Batch() { bank_.call_ = nullptr, bank_.cache_ = nullptr; }
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;

   private:
    CopiesBank& bank_;
  };

  torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) override;
  int64_t parameters_per_expert() const override;
  double flops_per_row() const override;
  bool separable() const override { return false; }
  torch::Tensor flat_weights() const override;

 private:
  [[nodiscard]] torch::Tensor run(size_t copy, const torch::Tensor& rows, const torch::Tensor& token);
  [[nodiscard]] torch::Tensor run_part(size_t copy, const torch::Tensor& rows, const torch::Tensor& token);
  void refuse_split(size_t copy, const torch::Tensor& token, const torch::Tensor& texts) const;

  int64_t layer_;
  std::vector<std::shared_ptr<Block>> copies_;
  const CallContext* call_ = nullptr;
  LayerCache* cache_ = nullptr;
};

}  // namespace switchyard
