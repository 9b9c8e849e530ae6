#include "io/strict_json.h"

#include <unordered_set>
#include <vector>

namespace switchyard::io {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 64;

// Called by the parser at every event; keeps the keys of the objects that are open.
class Watch {
 public:
  explicit Watch(const std::string& name) : name_(name) {}

  bool operator()(int depth, json::parse_event_t event, const json& parsed) {
    if (depth > kMaxDepth) fail(ErrorKind::checkpoint, "{}: JSON is nested deeper than {} levels", name_, kMaxDepth);
    if (event == json::parse_event_t::object_start) open_.emplace_back();
    if (event == json::parse_event_t::object_end) open_.pop_back();
    if (event == json::parse_event_t::key && !open_.back().insert(parsed.get_ref<const std::string&>()).second)
      fail(ErrorKind::checkpoint, "{}: key {} is given twice", name_, show(parsed));
    return true;
  }

 private:
  const std::string& name_;
  std::vector<std::unordered_set<std::string>> open_;
};

}  // namespace

json parse_strict_json(std::string_view text, const std::string& name) {
  // The parser takes a zero byte for the end of the text and would ignore the rest.
  if (const size_t zero = text.find('\0'); zero != text.npos)
    fail(ErrorKind::checkpoint, "{}: not valid JSON: zero byte at position {}", name, zero);
  Watch watch(name);
  try {
    return json::parse(text.begin(), text.end(),
                       [&watch](int depth, json::parse_event_t event, json& parsed) { return watch(depth, event, parsed); });
  } catch (const json::parse_error& error) {
    const std::string_view what = error.what();
    const size_t start = what.find("] ");
    fail(ErrorKind::checkpoint, "{}: not valid JSON: {}", name, start == what.npos ? what : what.substr(start + 2));
  } catch (const json::out_of_range& error) {  // a number such as 1e999
    fail(ErrorKind::checkpoint, "{}: not valid JSON: {}", name, error.what());
  }
}

bool JsonAt::has(std::string_view key) const {
  const auto& object = as_object();
  const auto found = object.find(key);
  return found != object.end() && !found->second.is_null();
}

JsonAt JsonAt::at(std::string_view key) const {
  const auto& object = as_object();
  const auto found = object.find(key);
  if (found == object.end()) fail(ErrorKind::checkpoint, "{}: key '{}' is missing", where_, key);
  return {found->second, fmt::format("{}{}{}", where_, where_.find(": ") == std::string::npos ? ": " : ".", key)};
}

JsonAt JsonAt::item(size_t index) const { return {(*value_)[index], fmt::format("{}[{}]", where_, index)}; }

size_t JsonAt::size() const {
  if (!value_->is_array()) wrong("an array");
  return value_->size();
}

const std::string& JsonAt::as_string() const {
  if (!value_->is_string()) wrong("a string");
  return value_->get_ref<const std::string&>();
}

int64_t JsonAt::as_integer() const {
  if (!value_->is_number_integer()) wrong("an integer");
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > INT64_MAX) wrong("an integer below 2^63");
  return value_->get<int64_t>();
}

bool JsonAt::as_bool() const {
  if (!value_->is_boolean()) wrong("true or false");
  return value_->get<bool>();
}

const json::object_t& JsonAt::as_object() const {
  if (!value_->is_object()) wrong("an object");
  return value_->get_ref<const json::object_t&>();
}

bool JsonAt::get_bool(std::string_view key, bool otherwise) const { return has(key) ? at(key).as_bool() : otherwise; }

std::string JsonAt::get_string(std::string_view key, const std::string& otherwise) const {
  return has(key) ? at(key).as_string() : otherwise;
}

void JsonAt::wrong(std::string_view expected) const {
  fail(ErrorKind::checkpoint, "{}: expected {}, found {}", where_, expected, show(*value_));
}

std::string show(const json& value) {
  constexpr size_t kLongest = 40;
  if (value.is_structured() && value.size() > 4) return fmt::format("{} of {}", value.type_name(), value.size());
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest - 3) + "...";
  return text;
}

}  // namespace switchyard::io
