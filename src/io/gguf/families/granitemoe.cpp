// Granite 3.0 MoE.
#include "io/gguf/families/granite_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_granitemoe() {
  return {.model_type = "granitemoe",
          .hf_class = "GraniteMoeForCausalLM",
          .architecture = "granitemoe",
          .names = decoder_rows(layer_rows(Arrange::query_rows, Arrange::key_rows, granite_expert_rows())),
          .keys = granite_keys(),
          .known = usual_extra_keys(),
          .is = [](const KeyReader& file) { return file.size("expert_shared_feed_forward_length", 0) == 0; },
          .write_more = write_granite_rotary_width};
}

}  // namespace switchyard::io
