// Keys and values of many sequences in pages of 16 tokens (kernels/paged_attention.h): sequences of any lengths go through
// the model in one call, [1, T] tokens of all of them one after the other, and memory is taken page by page.
#pragma once

#include "kernels/paged_attention.h"

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace switchyard {

using kernels::KvFormat;

// The next `ids` of a sequence.
struct PagedChunk {
  int64_t sequence = 0;
  std::span<const int32_t> ids;
};

class PagedCache {
 public:
  struct LayerShape {
    int64_t kv_heads = 0, head_dim = 0;  // 0: the layer keeps nothing
  };
  // Room for `tokens` tokens in all, rounded up to pages; memory is used when a page is.
  PagedCache(const std::vector<LayerShape>& layers, KvFormat format, int64_t tokens);

  // A new sequence that may grow to `longest` tokens, -1 if so many pages are not free: what is promised is kept.
  [[nodiscard]] int64_t open(int64_t longest);
  void close(int64_t sequence);  // its pages are free again
  [[nodiscard]] int64_t length(int64_t sequence) const { return sequences_.at(sequence).length; }
  [[nodiscard]] int64_t free_tokens() const { return static_cast<int64_t>(free_.size()) * kernels::kPageTokens; }

  // The tokens of the next call of the model, sequence by sequence. Throws Error{usage} for a sequence that outgrows its promise.
  void begin(const std::vector<PagedChunk>& chunks);
  void finish();  // the call is done: they belong to their sequences

  // Of the call: [1, T] int64; [T] int64; the token before each, [T] int64, -1 at the start of a sequence.
  [[nodiscard]] const torch::Tensor& input_ids() const { return input_ids_; }
  [[nodiscard]] const torch::Tensor& positions() const { return positions_; }
  [[nodiscard]] const torch::Tensor& sequence_ids() const { return sequence_ids_; }
  [[nodiscard]] const torch::Tensor& previous_ids() const { return previous_ids_; }
  // The last row of each chunk, [chunks] int64.
  [[nodiscard]] const torch::Tensor& last_rows() const { return last_rows_; }

  // Stores k and v [1, T, G, c] of the call and attends with q [1, T, H, c]: each token sees its sequence up to itself, or the last
  // `window` tokens of that. -> [1, T, H, c]
  [[nodiscard]] torch::Tensor attend(int64_t layer, const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, double scale, int64_t window);

 private:
  struct Sequence {
    std::vector<int32_t> pages;
    int64_t length = 0;
    int32_t last_id = -1;
  };
  struct Layer {
    kernels::KvPages pages;
    std::shared_ptr<char> memory;
    LayerShape shape;
  };

  KvFormat format_;
  std::vector<Layer> layers_;
  std::vector<int32_t> free_;
  std::map<int64_t, Sequence> sequences_;
  int64_t next_sequence_ = 0;
  std::vector<PagedChunk> chunks_;
  std::vector<kernels::PagedRows> parts_;
  torch::Tensor input_ids_, positions_, sequence_ids_, previous_ids_, last_rows_;
};

}  // namespace switchyard
