#include "steps/metrics_file.h"

#include <string>
#include <string_view>

namespace switchyard {
namespace {

// The whole lines of `text` whose step is at most `step`.
std::string lines_through(std::string_view text, int64_t step) {
  std::string kept;
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    if (newline == std::string_view::npos) break;
    const std::string_view line = text.substr(0, newline + 1);
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_object() && json.value("step", int64_t{0}) <= step) kept += line;
    text.remove_prefix(newline + 1);
  }
  return kept;
}

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path, int64_t step) {
  std::string kept;
  if (step > 0 && std::filesystem::exists(path)) kept = lines_through(read_text_file(path), step);
  write_file_atomic(path, kept);
  file_ = std::make_unique<OutputFile>(path, OutputFile::Mode::append);
}

void MetricsFile::write(const nlohmann::ordered_json& line) {
  file_->write(std::string_view(line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n"));
  file_->flush();
}

}  // namespace switchyard
