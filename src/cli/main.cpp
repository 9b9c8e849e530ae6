#include "base/memory.h"
#include "cli/program.h"

int main(int argc, char** argv) {
  switchyard::keep_freed_memory();
  return switchyard::cli::run_program(argc, argv);
}
