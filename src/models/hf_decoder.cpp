#include "models/hf_decoder.h"

namespace switchyard {

ModelSpec HfDecoder::read_config(const ConfigNode& node) const {
  HfConfig config(node);
  ModelSpec s = read(config);
  config.refuse_other_keys();
  return s;
}

nlohmann::ordered_json HfDecoder::write_config(const ModelSpec& spec) const {
  ModelSpec s = canonical(spec);
  s.d_ff = spec.resolved().d_ff;  // the key keeps its value where no layer uses it
  nlohmann::ordered_json config{{"architectures", {architecture_}}, {"model_type", model_type_}};
  write_common_keys(config, s);
  write(config, s);
  return config;
}

std::vector<Places> HfDecoder::layouts(const LanguageModel& model) const {
  const ModelSpec& s = model.spec();
  std::vector<Places> out;
  for (const bool stacked : {false, true}) {
    if (stacked && !has_stacked_layout()) break;
    Places& places = out.emplace_back();
    add_outer_places(places, s, names());
    for (int64_t i = 0; i < s.num_layers; ++i) {
      add_attention_places(places, s, i, names());
      add_network(places, s, i, stacked);
    }
  }
  return out;
}

}  // namespace switchyard
