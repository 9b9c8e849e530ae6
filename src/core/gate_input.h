// What a call of the model tells the gate of one layer, beside the hidden states.
#pragma once

#include "switchyard/mixer.h"
#include "switchyard/routing.h"

namespace switchyard {

[[nodiscard]] inline GateInput gate_input(const CallContext& call, int64_t layer) {
  GateInput input;
  input.valid = call.valid;
  input.token_ids = call.token_ids;
  input.sequence_ids = call.sequence_ids;
  input.tags = call.tags;
  input.positions = call.positions.view({-1});
  input.previous_ids = call.previous_ids;
  input.training = call.training;
  input.step = call.step;
  input.first_token = call.first_token;
  input.random = call.random.at("layer", static_cast<uint64_t>(layer));
  return input;
}

}  // namespace switchyard
