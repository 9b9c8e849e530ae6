// `--weights` of verbs that only compute forward.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace switchyard::cli {

// How the model keeps its large matrices, for load_checkpoint.
void add_weights_option(CLI::App& verb, std::string& weights);

}  // namespace switchyard::cli
