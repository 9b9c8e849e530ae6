// Rows of a family's table that the Llama line of models shares.
#pragma once

#include "models/family.h"

#include <nlohmann/json.hpp>

namespace switchyard {

using Places = std::vector<TensorPlace>;

// Embedding, final norm and (untied) head.
void add_outer_places(Places& out, const ModelSpec& spec);
// Norms and attention of layer i.
void add_attention_places(Places& out, const ModelSpec& spec, int64_t layer);
// Gate half, up half and output matrix of expert `index` of the bank `bank` ("layers.3.ffn.experts"); width = {key, size}.
struct GatedNames {
  std::string gate, up, down;
};
void add_gated_expert(Places& out, const GatedNames& names, const std::string& bank, int64_t index, const Dimension& width, int64_t d_model);

// Leftovers in published files: rotary frequencies, and the head of a model whose embeddings are tied.
[[nodiscard]] bool is_known_leftover(const std::string& stored, const ModelSpec& spec);

class HfConfig;
// Sizes and constants with the same keys in the whole line; feed-forward layers are left to the family.
struct HfDefaults {
  int64_t max_positions;
  double norm_eps, rope_theta;
};
[[nodiscard]] ModelSpec read_common_keys(HfConfig& config, const HfDefaults& absent);
void write_common_keys(nlohmann::ordered_json& config, const ModelSpec& resolved);

}  // namespace switchyard
