#include "switchyard/language_model.h"

namespace switchyard {

KvCache::KvCache(const ModelSpec& spec, int64_t batch, int64_t capacity) {
  const ModelSpec s = spec.resolved();
  for (int64_t i = 0; i < s.num_layers; ++i) {
    const int64_t places = s.layer(i).attention ? capacity : 0;
    keys.push_back(torch::empty({batch, places, s.num_kv_heads, s.head_dim}));
    values.push_back(torch::empty({batch, places, s.num_kv_heads, s.head_dim}));
  }
  mixes.resize(static_cast<size_t>(s.num_layers));
  segments = torch::zeros({batch, capacity}, torch::kInt32);
  token_ids = torch::zeros({batch, capacity}, torch::kInt64);
}

}  // namespace switchyard
