// How many threads compute. Debian's libtorch starts with half of the hardware threads (it assumes two per core), and with
// one on a machine of two; we set the number ourselves.
#pragma once

#include <cstdint>

namespace CLI {
class App;
}

namespace switchyard::cli {

[[nodiscard]] int cores_in_affinity_mask();

// OpenMP threads wait for each other by spinning, for milliseconds by default: on a machine with other work that halves the
// speed of training. libgomp reads the length of the spin when it is loaded, so the program starts itself again with a short
// one, unless GOMP_SPINCOUNT or OMP_WAIT_POLICY say what is wanted. One run each on two busy cores, 100 steps: 24.8 s and 11.7 s.
// For `bench` OpenBLAS, which libtorch multiplies with, likewise hears which CPU this is, unless OPENBLAS_CORETYPE says it: an older
// OpenBLAS takes a CPU that is newer than itself for one without AVX, and the comparison would be unfair.
void start_with_library_settings(char** argv);

// OMP_NUM_THREADS if it is set to a positive number, else every core that this process may run on.
void use_all_cores();

[[nodiscard]] int threads_in_use();

// `--threads N` of a verb that computes; takes effect while parsing.
void add_threads_option(CLI::App& verb);

}  // namespace switchyard::cli
