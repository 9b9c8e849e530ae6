// metrics.jsonl: one JSON object per line.
#pragma once

#include <string>

#include "report/run_files.h"

namespace switchyard::report {

// Appends the records of `text` to `run`: train, evals, events and notes. Lines of other kinds are left alone.
void parse_metrics(const std::string& text, const std::string& file, RunFiles& run);

}  // namespace switchyard::report
