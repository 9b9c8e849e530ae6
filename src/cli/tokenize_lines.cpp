#include "cli/tokenize_lines.h"

#include "switchyard/error.h"

#include <fmt/format.h>

namespace switchyard::cli {
namespace {

using json = nlohmann::ordered_json;

// Calls `convert` with the value of `key` of each line that is not empty.
template <class Convert>
void for_each_object(std::istream& in, const std::string& name, const char* key, const LineSink& out, const Convert& convert) {
  int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto value = object.is_object() ? object.find(key) : object.end();
    if (!object.is_object() || value == object.end())
      fail(ErrorKind::checkpoint, "{}:{}: expected a JSON object with the key '{}'", name, number, key);
    try {
      out(convert(*value).dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
    } catch (const json::exception&) {
      fail(ErrorKind::checkpoint, "{}:{}: '{}' is {}", name, number, key, value->type_name());
    } catch (const Error& e) {
      fail(ErrorKind::checkpoint, "{}:{}: {}", name, number, e.what());
    }
  }
}

}  // namespace

void encode_lines(std::istream& in, const std::string& name, const Tokenizer& tokenizer, bool special, const LineSink& out) {
  for_each_object(in, name, "text", out, [&](const json& text) { return json{{"ids", tokenizer.encode(text.get<std::string>(), special)}}; });
}

void decode_lines(std::istream& in, const std::string& name, const Tokenizer& tokenizer, bool special, const LineSink& out) {
  for_each_object(in, name, "ids", out, [&](const json& ids) {
    return json{{"text", tokenizer.decode(ids.get<std::vector<int32_t>>(), !special)}};
  });
}

}  // namespace switchyard::cli
