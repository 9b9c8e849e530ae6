// The report of a training run: one HTML file that needs nothing else.
#pragma once

#include <string>

#include "report/run_files.h"

namespace switchyard::report {

// The page as text. Says what is missing instead of failing: an empty run gives a page too.
[[nodiscard]] std::string render_report(const RunFiles& run);

// Reads the files of `run_dir` and writes the page to `out_path`, which is replaced as a whole or not at all. Throws
// Error{io} when a path cannot be read or written, Error{checkpoint} for damaged files of the run.
void write_report(const std::string& run_dir, const std::string& out_path);

}  // namespace switchyard::report
