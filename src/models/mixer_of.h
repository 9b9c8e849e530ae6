// The mixer that a layer of a model has.
#pragma once

#include "switchyard/mixer.h"
#include "switchyard/model_spec.h"

namespace switchyard {

// Null when the layer has none. Without a seed the weights are zeros.
[[nodiscard]] std::shared_ptr<Mixer> make_mixer(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed);
// The same without storage, to ask for sizes, sites and room.
[[nodiscard]] std::shared_ptr<Mixer> sizes_of_mixer(const ModelSpec& spec, int64_t layer);

// Dimensions that rotary positions turn in all layers; 0 = none. Throws Error{config} when layers differ.
[[nodiscard]] int64_t rotary_dims(const ModelSpec& spec);

}  // namespace switchyard
