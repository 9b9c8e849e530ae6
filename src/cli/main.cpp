#include "base/memory.h"
#include "cli/program.h"
#include "cli/threads.h"

int main(int argc, char** argv) {
  switchyard::cli::start_with_library_settings(argv);
  switchyard::keep_freed_memory();
  return switchyard::cli::run_program(argc, argv);
}
