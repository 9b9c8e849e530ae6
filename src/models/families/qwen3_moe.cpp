// Qwen3-MoE (arXiv:2505.09388): layer i has experts when (i + 1) % decoder_sparse_step = 0 and i is not among mlp_only_layers; the
// attention of Qwen3.
#include "models/hf_decoder.h"
#include "models/hf_qwen_moe.h"
#include "models/hf_windows.h"

namespace switchyard {
namespace {

struct Qwen3Moe final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 32768, .norm_eps = 1e-6, .rope_theta = 10000});
    const bool bias = config.flag("attention_bias", false);
    s.mixer = {"attention", {{"qk_norm", "head"}, {"qkv_bias", bias}, {"o_bias", bias}}};
    read_qwen_experts(config, s, {.num_experts = 128, .top_k = 8});
    read_qwen_windows(config, s);
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    config["attention_bias"] = option_of(s.mixer, "qkv_bias", false);
    write_qwen_experts(config, s);
    write_qwen_windows(config, s);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) const override {
    add_qwen_network(out, s, layer, stacked);
  }
  bool has_stacked_layout() const override { return true; }
};

}  // namespace

FamilyEntry family_qwen3_moe() {
  return {"qwen3_moe", "arXiv:2505.09388", "sparse decoder: many small experts, a norm of every query and key head",
          std::make_shared<Qwen3Moe>("qwen3_moe", "Qwen3MoeForCausalLM")};
}

}  // namespace switchyard
