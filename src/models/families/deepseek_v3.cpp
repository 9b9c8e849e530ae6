// DeepSeek-V3 (arXiv:2412.19437): as V2, with sigmoid scores, a bias that only the choice sees, groups by the sum of their two best
// experts, renormalised weights. The layer for the token after the next one, which published files hold behind the last
// layer, is not loaded.
#include "models/hf_decoder.h"
#include "models/hf_deepseek.h"

namespace switchyard {
namespace {

struct DeepseekV3 final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 4096, .norm_eps = 1e-6, .rope_theta = 10000});
    s.rope.adjacent_pairs = config.flag("rope_interleave", true);
    read_latent_attention(config, s, {.q_rank = 1536, .kv_rank = 512, .nope_dim = 128, .rope_dim = 64, .v_dim = 128}, true);
    config.only("mlp_bias", false, "biases in feed-forward layers are not supported");
    config.only("ep_size", 1, "experts are spread by this library, not by the file");
    config.harmless("qk_head_dim");
    config.harmless("num_nextn_predict_layers");
    read_deepseek_experts(config, s, {.scoring = "sigmoid", .method = "noaux_tc", .num_experts = 256, .num_shared = 1, .top_k = 8, .first_dense = 3, .groups = 8,
                                      .keep = 4, .renormalise = true, .scale = 2.5});
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    config["rope_interleave"] = s.rope.adjacent_pairs;
    write_latent_attention(config, s);
    write_deepseek_experts(config, s);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) const override { add_deepseek_network(out, s, layer, stacked); }
  bool has_stacked_layout() const override { return true; }
  bool ignores(const std::string& stored, const ModelSpec& s) const override { return HfDecoder::ignores(stored, s) || is_extra_prediction(stored, s); }
};

}  // namespace

FamilyEntry family_deepseek_v3() {
  return {"deepseek_v3", "arXiv:2412.19437", "sparse decoder: latent attention, sigmoid scores balanced by a bias", std::make_shared<DeepseekV3>("deepseek_v3", "DeepseekV3ForCausalLM")};
}

}  // namespace switchyard
