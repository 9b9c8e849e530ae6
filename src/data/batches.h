// Batches: windows of a token stream as rows of a matrix.
//
// Training walks the stream as a ring, cut into windows of seq_len labels. Every epoch the ring is turned by a random
// phase, so that the cuts fall elsewhere, and the windows come in a random order. Each epoch thus predicts every token once,
// but for fewer than seq_len tokens at a random place (the remainder of the division). A batch is a pure function of
// (stream, options, step, micro-batch): a run that is resumed at a step sees what the uninterrupted one would have seen, and
// the rows of a step do not depend on the number of ranks.
//
// Evaluation walks the stream once in order; each scored token is predicted exactly once. The context of a token starts at
// its window (one token at least), so perplexities fall a little with a longer seq_len.
#pragma once

#include "data/token_file.h"

#include <cstdint>
#include <vector>

namespace switchyard::data {

inline constexpr int32_t kIgnoredLabel = -100;  // as in PyTorch's and Hugging Face's cross-entropy
inline constexpr int32_t kPadding = -1;         // in `segments`, `documents` and `tags`

// Row-major [batch, seq]. Padding (short last rows of an evaluation) has id 0, label -100, segment -1, position 0.
struct Batch {
  int64_t batch = 0, seq = 0;
  std::vector<int32_t> input_ids;
  std::vector<int32_t> labels;     // the next token of the stream, or -100 where it is not scored
  std::vector<int32_t> segments;   // attention stays inside equal values; 0, 1, ... in the order of the row
  std::vector<int32_t> positions;  // place in the segment, from 0
  std::vector<int32_t> documents;  // index into TokenStream::documents()
  int64_t scored_tokens = 0;       // labels other than -100
  std::vector<int32_t> tags = {};  // number of the document's domain (TokenStream::domain_of); empty = not known

  bool operator==(const Batch&) const = default;
};

struct TrainBatchOptions {
  int64_t seq_len = 0;
  int64_t batch_size = 0;        // rows of one micro-batch on all ranks together
  int64_t micro_batches = 1;     // per optimiser step
  uint64_t seed = 0;
  bool cross_documents = false;  // attention over document borders: one segment per row
  int64_t rank = 0, num_ranks = 1;
};

class TrainBatches {
 public:
  // The TokenFile must outlive the object. Throws Error{config} for sizes below 1, a batch_size that num_ranks does not
  // divide, or a stream that is shorter than one window of seq_len + 1 tokens.
  TrainBatches(const TokenStream& stream, const TrainBatchOptions& options);

  // This rank's rows [batch_size / num_ranks, seq_len]. step >= 0, 0 <= micro < micro_batches.
  [[nodiscard]] Batch batch(int64_t step, int64_t micro = 0) const;

  [[nodiscard]] int64_t windows_per_epoch() const { return windows_; }
  // Optimiser steps of one epoch; epochs need not start with a step.
  [[nodiscard]] double steps_per_epoch() const;

 private:
  // First input token of global row `row`, counted from the start of training.
  [[nodiscard]] int64_t window_start(int64_t row) const;

  TokenStream stream_;
  TrainBatchOptions options_;
  int64_t windows_;
};

struct EvalBatchOptions {
  int64_t seq_len = 0;
  int64_t batch_size = 0;
  bool cross_documents = false;
  int64_t max_windows = 0;  // 0: all; otherwise this many, evenly spread over the stream
};

class EvalBatches {
 public:
  // The TokenFile must outlive the object. Throws Error{config} for sizes below 1 or a stream without a token to predict.
  EvalBatches(const TokenStream& stream, const EvalBatchOptions& options);

  // Number of batches; the last may have fewer rows, and the row at the end of the stream padding.
  [[nodiscard]] int64_t size() const { return (windows_ + options_.batch_size - 1) / options_.batch_size; }
  [[nodiscard]] Batch batch(int64_t index) const;

  // Bytes of text per scored token over the whole stream. With a loss in nats per scored token,
  //   bits per byte = loss / (ln 2 * bytes_per_token)
  // which is exact over all windows. End-of-document tokens are scored and have no bytes: the code pays for them.
  [[nodiscard]] double bytes_per_token() const { return bytes_per_token_; }

 private:
  TokenStream stream_;
  EvalBatchOptions options_;
  int64_t all_windows_, windows_;
  double bytes_per_token_;
};

}  // namespace switchyard::data
