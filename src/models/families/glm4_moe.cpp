// GLM-4.5 (arXiv:2508.06471): the experts of DeepSeek-V3; grouped queries with biases, of which half of a head turns.
#include "models/hf_decoder.h"
#include "models/hf_deepseek.h"

namespace switchyard {
namespace {

struct Glm4Moe final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 131072, .norm_eps = 1e-5, .rope_theta = 10000, .partial_rotary = 0.5});
    s.mixer = {"attention", {{"qkv_bias", config.flag("attention_bias", false)}, {"qk_norm", config.flag("use_qk_norm", false) ? "head" : "none"}}};
    config.harmless("num_nextn_predict_layers");
    read_deepseek_experts(config, s, {.scoring = "sigmoid", .method = "noaux_tc", .num_experts = 128, .num_shared = 1, .top_k = 8, .first_dense = 1, .renormalise = true});
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    config["attention_bias"] = option_of(s.mixer, "qkv_bias", false);
    config["use_qk_norm"] = option_of<std::string>(s.mixer, "qk_norm", "none") == "head";
    if (s.rope.dims == 0) config["partial_rotary_factor"] = 1.0;
    write_deepseek_experts(config, s);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) const override { add_deepseek_network(out, s, layer, stacked); }
  bool has_stacked_layout() const override { return true; }
  bool ignores(const std::string& stored, const ModelSpec& s) const override { return HfDecoder::ignores(stored, s) || is_extra_prediction(stored, s); }
};

}  // namespace

FamilyEntry family_glm4_moe() {
  return {"glm4_moe", "arXiv:2508.06471", "sparse decoder: experts as deepseek_v3, grouped queries of which half turns", std::make_shared<Glm4Moe>("glm4_moe", "Glm4MoeForCausalLM")};
}

}  // namespace switchyard
