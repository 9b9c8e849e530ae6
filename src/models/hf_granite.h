// The Granite line of sparse decoders, with a shared expert or without.
#pragma once

#include "models/family.h"

#include <memory>
#include <string>

namespace switchyard {

[[nodiscard]] std::shared_ptr<Family> granite_moe(std::string model_type, std::string architecture);

}  // namespace switchyard
