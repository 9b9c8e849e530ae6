#include "data/batches.h"

#include "data/permutation.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::data {
namespace {

Batch empty_batch(int64_t batch, int64_t seq) {
  const auto cells = static_cast<size_t>(batch * seq);
  return {.batch = batch,
          .seq = seq,
          .input_ids = std::vector<int32_t>(cells, 0),
          .labels = std::vector<int32_t>(cells, kIgnoredLabel),
          .segments = std::vector<int32_t>(cells, kPadding),
          .positions = std::vector<int32_t>(cells, 0),
          .documents = std::vector<int32_t>(cells, kPadding),
          .scored_tokens = 0,
          .tags = std::vector<int32_t>(cells, kPadding)};
}

// Fills a row with the tokens start, start + 1, ... (`length` of them, on the ring) and their successors as labels.
void fill_row(const TokenStream& stream, int64_t start, int64_t length, bool cross_documents, int64_t row, Batch& batch) {
  const int64_t size = stream.size();
  int64_t at = start, document = stream.document_of(start), document_end = stream.document_end(document);
  int32_t segment = 0, position = 0;
  for (int64_t i = 0; i < length; ++i) {
    if (at == document_end) {
      at = at == size ? 0 : at;
      document = at == 0 ? 0 : document + 1;
      document_end = stream.document_end(document);
      if (!cross_documents) ++segment, position = 0;
    }
    const int64_t next = at + 1 == size ? 0 : at + 1;
    const auto cell = static_cast<size_t>(row * batch.seq + i);
    batch.input_ids[cell] = stream.token(at);
    batch.segments[cell] = segment;
    batch.positions[cell] = position++;
    batch.documents[cell] = static_cast<int32_t>(document);
    batch.tags[cell] = static_cast<int32_t>(stream.domain_of(document));
    if (stream.scored(next)) {
      batch.labels[cell] = stream.token(next);
      ++batch.scored_tokens;
    }
    ++at;
  }
}

void check_positive(const char* name, int64_t value) {
  if (value < 1) fail(ErrorKind::config, "{} = {}; expected at least 1", name, value);
}

}  // namespace

TrainBatches::TrainBatches(const TokenStream& stream, const TrainBatchOptions& options) : stream_(stream), options_(options) {
  check_positive("seq_len", options.seq_len);
  check_positive("batch_size", options.batch_size);
  check_positive("micro_batches", options.micro_batches);
  check_positive("num_ranks", options.num_ranks);
  if (options.rank < 0 || options.rank >= options.num_ranks)
    fail(ErrorKind::config, "rank = {}; expected 0 to {} (num_ranks = {})", options.rank, options.num_ranks - 1, options.num_ranks);
  if (options.batch_size % options.num_ranks != 0)
    fail(ErrorKind::config, "batch_size = {} cannot be shared equally by {} ranks", options.batch_size, options.num_ranks);
  if (stream.size() < options.seq_len + 1)
    fail(ErrorKind::config, "the training split has {} tokens; seq_len = {} needs at least {}", stream.size(), options.seq_len,
         options.seq_len + 1);
  windows_ = stream.size() / options.seq_len;
}

double TrainBatches::steps_per_epoch() const {
  return static_cast<double>(windows_) / static_cast<double>(options_.batch_size * options_.micro_batches);
}

int64_t TrainBatches::window_start(int64_t row) const {
  const auto epoch = static_cast<uint64_t>(row / windows_);
  const auto place = static_cast<uint64_t>(row % windows_);
  const RandomStream random(options_.seed, "batches");
  const auto size = static_cast<uint64_t>(stream_.size());
  const uint64_t phase = random.at("phase", epoch).below(0, size);
  const uint64_t window = Permutation(random.at("order", epoch), static_cast<uint64_t>(windows_))(place);
  return static_cast<int64_t>((phase + window * static_cast<uint64_t>(options_.seq_len)) % size);
}

Batch TrainBatches::batch(int64_t step, int64_t micro) const {
  if (step < 0 || micro < 0 || micro >= options_.micro_batches)
    fail(ErrorKind::internal, "batch {} of step {}; there are {} per step", micro, step, options_.micro_batches);
  const int64_t rows = options_.batch_size / options_.num_ranks;
  const int64_t first = (step * options_.micro_batches + micro) * options_.batch_size + options_.rank * rows;
  Batch batch = empty_batch(rows, options_.seq_len);
  for (int64_t row = 0; row < rows; ++row)
    fill_row(stream_, window_start(first + row), options_.seq_len, options_.cross_documents, row, batch);
  return batch;
}

EvalBatches::EvalBatches(const TokenStream& stream, const EvalBatchOptions& options) : stream_(stream), options_(options) {
  check_positive("seq_len", options.seq_len);
  check_positive("batch_size", options.batch_size);
  if (options.max_windows < 0) fail(ErrorKind::config, "max_windows = {}; expected 0 (all) or more", options.max_windows);
  const int64_t scored_tokens = stream.scored_tokens();
  if (scored_tokens == 0) fail(ErrorKind::config, "nothing to evaluate: the split has {} tokens and none is scored", stream.size());
  bytes_per_token_ = static_cast<double>(stream.scored_bytes()) / static_cast<double>(scored_tokens);
  all_windows_ = (stream.size() - 1 + options.seq_len - 1) / options.seq_len;
  windows_ = options.max_windows == 0 ? all_windows_ : std::min(all_windows_, options.max_windows);
}

Batch EvalBatches::batch(int64_t index) const {
  if (index < 0 || index >= size()) fail(ErrorKind::internal, "evaluation batch {}; there are {}", index, size());
  const int64_t first = index * options_.batch_size;
  const int64_t rows = std::min(options_.batch_size, windows_ - first);
  Batch batch = empty_batch(rows, options_.seq_len);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t start = (first + row) * all_windows_ / windows_ * options_.seq_len;
    fill_row(stream_, start, std::min(options_.seq_len, stream_.size() - 1 - start), options_.cross_documents, row, batch);
  }
  return batch;
}

}  // namespace switchyard::data
