// DeepSeek-V2: softmax over all experts.
#include "io/gguf/families/latent.h"

namespace switchyard::io {

GgufFamily gguf_family_deepseek_v2() {
  GgufFamily out = latent_family("deepseek_v2", "DeepseekV2ForCausalLM");
  out.is = [](const KeyReader& file) { return file.size("expert_gating_func", kSoftmaxGating) != kSigmoidGating; };
  out.write_more = [](const nlohmann::ordered_json& config, KeyWriter& keys) {
    write_latent_keys(config, "softmax", false, keys);
  };
  return out;
}

}  // namespace switchyard::io
