// metrics.jsonl: one JSON object per line, appended as training goes.
#pragma once

#include "base/files.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>

namespace switchyard {

class MetricsFile {
 public:
  // Opens `path` for a run that goes on behind step `step`: lines of later steps, and an unfinished last line, are removed.
  // With step 0 the file begins empty.
  MetricsFile(const std::filesystem::path& path, int64_t step);

  // Appends a line and hands it to the system. Not finite numbers become null.
  void write(const nlohmann::ordered_json& line);

 private:
  std::unique_ptr<OutputFile> file_;
};

}  // namespace switchyard
