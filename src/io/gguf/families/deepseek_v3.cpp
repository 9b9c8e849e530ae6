// DeepSeek-V3: sigmoid scores, a bias on the choice.
#include "io/gguf/families/latent.h"

namespace switchyard::io {
namespace {

// A file that leaves keys out means other values than a config.json that does.
void read_deepseek_v3(const KeyReader& file, nlohmann::ordered_json& config) {
  read_latent_keys(file, config);
  const nlohmann::ordered_json absent = {{"n_group", 1}, {"topk_group", 1}, {"routed_scaling_factor", 1.0}};
  for (const auto& [key, value] : absent.items())
    if (!config.contains(key)) config[key] = value;
}

}  // namespace

GgufFamily gguf_family_deepseek_v3() {
  GgufFamily out = latent_family("deepseek_v3", "DeepseekV3ForCausalLM");
  out.is = [](const KeyReader& file) { return file.size("expert_gating_func", kSoftmaxGating) == kSigmoidGating; };
  out.write_more = [](const nlohmann::ordered_json& config, KeyWriter& keys) {
    write_latent_keys(config, "sigmoid", true, keys);
  };
  out.read_more = read_deepseek_v3;
  return out;
}

}  // namespace switchyard::io
