// Llama: the dense member of the line (arXiv:2302.13971; grouped queries arXiv:2307.09288).
#include "models/family.h"
#include "models/hf_config.h"
#include "models/hf_places.h"

namespace switchyard {
namespace {

struct Llama final : Family {
  ModelSpec read_config(const ConfigNode& node) const override {
    HfConfig config(node);
    ModelSpec s = read_common_keys(config, {.max_positions = 2048, .norm_eps = 1e-6, .rope_theta = 10000});
    s.d_ff = config.size("intermediate_size");
    config.refuse_other_keys();
    return s;
  }

  nlohmann::ordered_json write_config(const ModelSpec& spec) const override {
    nlohmann::ordered_json config{{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"}};
    write_common_keys(config, spec);
    config["attention_bias"] = false;
    config["intermediate_size"] = spec.d_ff;
    config["mlp_bias"] = false;
    return config;
  }

  std::vector<Places> layouts(const LanguageModel& model) const override {
    const ModelSpec& s = model.spec();
    Places places;
    add_outer_places(places, s);
    for (int64_t i = 0; i < s.num_layers; ++i) {
      add_attention_places(places, s, i);
      const auto mlp = fmt::format("model.layers.{}.mlp.", i);
      add_gated_expert(places, {mlp + "gate_proj.weight", mlp + "up_proj.weight", mlp + "down_proj.weight"}, fmt::format("layers.{}.ffn", i), 0,
                       {"intermediate_size", s.d_ff}, s.d_model);
    }
    return {places};
  }

  bool ignores(const std::string& stored, const ModelSpec& spec) const override { return is_known_leftover(stored, spec); }
};

}  // namespace

FamilyEntry family_llama() { return {"llama", "arXiv:2302.13971", "dense decoder: RMSNorm, rotary positions, SwiGLU", std::make_shared<Llama>()}; }

}  // namespace switchyard
