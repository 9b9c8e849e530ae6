// The options of verbs that draw tokens.
#pragma once

#include "infer/generate.h"

namespace CLI {
class App;
}

namespace switchyard::cli {

void add_sampling_options(CLI::App& verb, GenerateOptions& options);

}  // namespace switchyard::cli
