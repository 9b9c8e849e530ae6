// Granite MoE with a shared expert of its own width: src/models/hf_granite.cpp.
#include "models/hf_granite.h"

namespace switchyard {

FamilyEntry family_granitemoeshared() {
  return {"granitemoeshared", "", "sparse decoder: as granitemoe, beside a shared expert", granite_moe("granitemoeshared", "GraniteMoeSharedForCausalLM")};
}

}  // namespace switchyard
