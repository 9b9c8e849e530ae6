#include "cli/weights_option.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {

void add_weights_option(CLI::App& verb, std::string& weights) {
  verb.add_option("--weights", weights,
                  "how large matrices are kept: auto (bfloat16 where the folder stores 16-bit floats, else float32), float32, bfloat16, int8, int4; "
                  "plain = not packed, as for training")
      ->check(CLI::IsMember({"auto", "plain", "float32", "bfloat16", "int8", "int4"}).description(""))
      ->type_name("FORMAT")
      ->capture_default_str();
}

}  // namespace switchyard::cli
