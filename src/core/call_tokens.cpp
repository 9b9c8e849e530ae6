#include "core/call_tokens.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {

torch::Tensor sequence_places(const GateInput& input) {
  const int64_t tokens = input.hidden.size(0);
  auto out = torch::empty({tokens}, torch::kInt64);
  const auto sequences = input.sequence_ids.defined() ? input.sequence_ids.contiguous() : torch::zeros({tokens}, torch::kInt64);
  const auto positions = input.positions.defined() ? input.positions.contiguous() : torch::Tensor();
  const auto* sequence = sequences.data_ptr<int64_t>();
  auto* place = out.data_ptr<int64_t>();
  for (int64_t t = 0; t < tokens; ++t) {
    if (t > 0 && sequence[t] == sequence[t - 1]) place[t] = place[t - 1];
    // A call that goes on from a cache begins in the middle of its sequence.
    else place[t] = input.first_token + t - (positions.defined() ? positions.data_ptr<int64_t>()[t] : 0);
  }
  return out;
}

torch::Tensor checked_tags(const GateInput& input, int64_t num_tags, const char* gate, int64_t layer) {
  if (!input.tags.defined())
    fail(ErrorKind::usage, "gate '{}' in layers.{}.ffn needs tags, and the call has none: give the documents domains, or pass TokenBatch::tags "
         "(sample.tag, --tag)", gate, layer);
  auto wrong = (input.tags < 0) | (input.tags >= num_tags);
  if (input.valid.defined()) wrong = wrong & input.valid;
  if (wrong.any().item<bool>())
    fail(ErrorKind::config, "gate '{}' in layers.{}.ffn: a token has the tag {}, expected 0 to {}", gate, layer, input.tags.index({wrong})[0].item<int64_t>(),
         num_tags - 1);
  return input.valid.defined() ? input.tags.masked_fill(~input.valid, 0) : input.tags;
}

}  // namespace switchyard
