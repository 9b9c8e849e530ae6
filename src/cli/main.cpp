#include "cli/program.h"

int main(int argc, char** argv) { return switchyard::cli::run_program(argc, argv); }
