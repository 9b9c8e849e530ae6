// Which sites the blocks of a model have, and the mixtures that ModelSpec::mixtures puts there.
#pragma once

#include "layer/site_mixture.h"
#include "switchyard/model_spec.h"

#include <memory>
#include <optional>
#include <vector>

namespace switchyard {

// The sites of one block in the order in which it reaches them. `spec` has its heads resolved.
[[nodiscard]] std::vector<Site> sites_of(const ModelSpec& spec, int64_t layer);

// The mixtures of one block, in the order of its sites, then of the specification; null when it has none. Without `seed` the
// weights stay at zero (a checkpoint follows).
[[nodiscard]] std::shared_ptr<SiteMixtures> make_mixtures(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed);

// Throws Error{config} naming the mixture, the key and what was expected.
void check_mixtures(const ModelSpec& spec);

// Routers and experts of all of them, as count_parameters shows them.
[[nodiscard]] std::vector<ParameterCount::Part> count_mixtures(const ModelSpec& spec);

}  // namespace switchyard
