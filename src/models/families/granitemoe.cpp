// Granite 3.0 MoE: src/models/hf_granite.cpp.
#include "models/hf_granite.h"

namespace switchyard {

FamilyEntry family_granitemoe() { return {"granitemoe", "", "sparse decoder: softmax over the chosen, four multipliers", granite_moe("granitemoe", "GraniteMoeForCausalLM")}; }

}  // namespace switchyard
