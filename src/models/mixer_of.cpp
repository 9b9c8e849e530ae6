#include "models/mixer_of.h"

#include "models/initial_weights.h"
#include "models/layer_pattern.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

std::shared_ptr<Mixer> make(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed, bool sizes_only) {
  const auto kind = spec.layer(layer).mixer;
  if (!kind) return nullptr;
  return mixer_registry().make(*kind, MixerShape{.d_model = spec.d_model,
                                                 .num_heads = spec.num_heads,
                                                 .num_kv_heads = spec.num_kv_heads,
                                                 .head_dim = spec.head_dim,
                                                 .layer = layer,
                                                 .num_layers = spec.num_layers,
                                                 .max_positions = spec.max_positions,
                                                 .causal = spec.causal,
                                                 .rotary = spec.positions == "rotary",
                                                 .rotary_dims = spec.rope.dims,
                                                 .adjacent_pairs = spec.rope.adjacent_pairs,
                                                 .norm_eps = spec.norm_eps,
                                                 .init_std = spec.init_std,
                                                 .init_out_std = residual_std(spec),
                                                 .seed = seed,
                                                 .sizes_only = sizes_only});
}

}  // namespace

std::shared_ptr<Mixer> make_mixer(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed) { return make(spec, layer, seed, false); }

std::shared_ptr<Mixer> sizes_of_mixer(const ModelSpec& spec, int64_t layer) { return make(spec, layer, std::nullopt, true); }

int64_t rotary_dims(const ModelSpec& spec) {
  int64_t dims = 0, first = -1;
  for (const auto& group : layer_groups(spec)) {
    const auto mixer = sizes_of_mixer(spec, group.first);
    const int64_t here = mixer ? mixer->rotary_dims() : 0;
    if (here == 0) continue;
    if (dims != 0 && here != dims)
      fail(ErrorKind::config, "model: {} dimensions turn in layer {} and {} in layer {}; one table of angles serves all layers", dims, first, here, group.first);
    dims = here, first = group.first;
  }
  return dims;
}

}  // namespace switchyard
