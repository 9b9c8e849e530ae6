#include "models/mixer_of.h"
#include "switchyard/language_model.h"

namespace switchyard {

KvCache::KvCache(const ModelSpec& spec, int64_t batch, int64_t capacity, torch::Device device) {
  const ModelSpec s = spec.resolved();
  for (int64_t i = 0; i < s.num_layers; ++i) {
    const auto mixer = sizes_of_mixer(s, i);
    auto& state = states.emplace_back(mixer ? mixer->new_state(batch, capacity) : std::vector<torch::Tensor>());
    for (torch::Tensor& part : state) part = part.to(device);
  }
  mixes.resize(static_cast<size_t>(s.num_layers));
  segments = torch::zeros({batch, capacity}, torch::kInt32);
  token_ids = torch::zeros({batch, capacity}, torch::kInt64);
}

}  // namespace switchyard
