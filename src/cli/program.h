// The command line as a whole: parse, run one verb, turn whatever it throws into a message and an exit code.
#pragma once

namespace switchyard::cli {

[[nodiscard]] int run_program(int argc, char** argv);

}  // namespace switchyard::cli
