// DeepSeek-V2 (arXiv:2405.04434): latent attention; softmax over all experts, of which a token may reach those of few groups.
//
// Two readings: the published code renormalises the chosen weights when norm_topk_prob is set (and then does not scale them),
// transformers ignores the key. Published files have norm_topk_prob = false, where both agree; true is refused.
#include "models/hf_decoder.h"
#include "models/hf_deepseek.h"

namespace switchyard {
namespace {

struct DeepseekV2 final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 2048, .norm_eps = 1e-6, .rope_theta = 10000});
    s.rope.adjacent_pairs = true;
    read_latent_attention(config, s, {.q_rank = 1536, .kv_rank = 512, .nope_dim = 128, .rope_dim = 64, .v_dim = 128}, true);
    config.only("norm_topk_prob", false, "implementations disagree on what it does; false is supported");
    config.only("mlp_bias", false, "biases in feed-forward layers are not supported");
    config.only("ep_size", 1, "experts are spread by this library, not by the file");
    config.only("rope_interleave", true, "files of this family turn adjacent pairs");
    config.harmless("qk_head_dim");
    config.harmless("num_nextn_predict_layers");
    read_deepseek_experts(config, s, {});
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    write_latent_attention(config, s);
    write_deepseek_experts(config, s);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) const override { add_deepseek_network(out, s, layer, stacked); }
  bool has_stacked_layout() const override { return true; }
};

}  // namespace

FamilyEntry family_deepseek_v2() {
  return {"deepseek_v2", "arXiv:2405.04434", "sparse decoder: latent attention, experts in groups", std::make_shared<DeepseekV2>("deepseek_v2", "DeepseekV2ForCausalLM")};
}

}  // namespace switchyard
