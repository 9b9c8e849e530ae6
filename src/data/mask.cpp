#include "data/mask.h"

#include <utility>
#include <vector>

namespace switchyard::data {
namespace {

// Token i is the label of the token before it, unless a segment begins with it.
bool is_scored(const Batch& batch, size_t i) {
  if (batch.segments[i] < 0) return false;
  const bool first = i % static_cast<size_t>(batch.seq) == 0 || batch.segments[i - 1] != batch.segments[i];
  return first || batch.labels[i - 1] != kIgnoredLabel;
}

}  // namespace

Batch mask_tokens(Batch batch, int32_t mask_id, const RandomStream& stream) {
  std::vector<int32_t> labels(batch.labels.size(), kIgnoredLabel);
  std::vector<float> draw(labels.size());
  stream.fill_uniform(draw.data(), static_cast<int64_t>(draw.size()));
  size_t lowest = labels.size();
  for (size_t i = 0; i < labels.size(); ++i) {
    if (!is_scored(batch, i)) continue;
    if (lowest == labels.size() || draw[i] < draw[lowest]) lowest = i;
    if (draw[i] < kMaskFraction) labels[i] = batch.input_ids[i];
  }
  if (lowest < labels.size()) labels[lowest] = batch.input_ids[lowest];
  batch.scored_tokens = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == kIgnoredLabel) continue;
    batch.input_ids[i] = mask_id;
    ++batch.scored_tokens;
  }
  batch.labels = std::move(labels);
  return batch;
}

}  // namespace switchyard::data
