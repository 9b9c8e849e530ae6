// Measured tables as files: what `compare` writes beside its page can be read and shown again.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "report/measures.h"

namespace switchyard::report {

// [{"key", "title", "about", "form", "decimals"}], the columns.
[[nodiscard]] nlohmann::ordered_json measures_json(const MeasureTable& table);

// A comparison as its compare.json states it: "title", "about", "command", "machine", "measures", "recipes".
struct MeasuredBoard {
  std::string title, about, command, machine;
  MeasureTable table;
};

// Throws Error{checkpoint} naming `file`, the key, what was found and what was expected.
[[nodiscard]] MeasuredBoard parse_board(const std::string& text, const std::string& file);

// A Markdown table, best row first: by the mean of the first measure, which is a loss. Columns that are zero or empty in all
// rows are left out.
[[nodiscard]] std::string measures_markdown(const MeasureTable& table);

}  // namespace switchyard::report
