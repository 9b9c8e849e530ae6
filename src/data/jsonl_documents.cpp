#include "data/jsonl_documents.h"

#include "data/chat.h"
#include "data/text_documents.h"
#include "switchyard/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace switchyard::data {
namespace {

using nlohmann::json;

// One line of the file, for errors.
struct Place {
  const std::string& file;
  int64_t line;
};

std::string keys_of(const json& object) {
  std::string keys;
  for (const auto& [key, value] : object.items()) keys += (keys.empty() ? "" : ", ") + key;
  return keys.empty() ? "no keys" : keys;
}

const json& required(const json& object, const char* key, const std::string& where, const Place& at) {
  const auto it = object.find(key);
  if (it == object.end())
    fail(ErrorKind::checkpoint, "{}:{}: {}missing key '{}'; found {}", at.file, at.line, where, key, keys_of(object));
  return *it;
}

const std::string& as_string(const json& value, const std::string& name, const Place& at) {
  if (!value.is_string()) fail(ErrorKind::checkpoint, "{}:{}: '{}' is {}; expected a string", at.file, at.line, name, value.type_name());
  return value.get_ref<const std::string&>();
}

std::string optional_string(const json& object, const char* key, const Place& at) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? std::string() : as_string(*it, key, at);
}

ChatTurn turn_of(const json& value, size_t index, const Place& at) {
  const std::string name = "messages[" + std::to_string(index) + "]";
  if (!value.is_object()) fail(ErrorKind::checkpoint, "{}:{}: '{}' is {}; expected an object with role and content", at.file, at.line, name, value.type_name());
  ChatTurn turn{as_string(required(value, "role", name + ": ", at), name + ".role", at),
                as_string(required(value, "content", name + ": ", at), name + ".content", at)};
  const auto is_word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; };
  if (turn.role.empty() || !std::all_of(turn.role.begin(), turn.role.end(), is_word))
    fail(ErrorKind::checkpoint, "{}:{}: '{}.role' is '{}'; expected a word such as system, user or assistant", at.file, at.line, name, turn.role);
  return turn;
}

void read_conversation(const json& messages, const Place& at, Document& document) {
  if (!messages.is_array() || messages.empty())
    fail(ErrorKind::checkpoint, "{}:{}: 'messages' is {}; expected a non-empty array of turns", at.file, at.line,
         messages.is_array() ? "an empty array" : messages.type_name());
  std::vector<ChatTurn> turns;
  for (const json& message : messages) turns.push_back(turn_of(message, turns.size(), at));
  RenderedChat chat = render_chat(turns);
  if (chat.scored.empty())
    fail(ErrorKind::checkpoint, "{}:{}: no turn has the role 'assistant'; expected one at least, the loss falls on these turns only", at.file, at.line);
  document.text = std::move(chat.text);
  document.scored = std::move(chat.scored);
}

Document document_of(std::string_view line, const Place& at) {
  json row;
  try {
    row = json::parse(line);
  } catch (const json::parse_error& error) {
    fail(ErrorKind::checkpoint, "{}:{}:{}: not JSON; expected one object per line ({})", at.file, at.line, error.byte, error.what());
  }
  if (!row.is_object()) fail(ErrorKind::checkpoint, "{}:{}: the line is {}; expected an object", at.file, at.line, row.type_name());
  Document document{.name = optional_string(row, "title", at), .domain = optional_string(row, "domain", at), .text = {}, .scored = {}};
  if (document.name.empty()) document.name = at.file.substr(at.file.find_last_of('/') + 1) + ":" + std::to_string(at.line);
  const bool has_text = row.contains("text"), has_messages = row.contains("messages");
  if (has_text == has_messages)
    fail(ErrorKind::checkpoint, "{}:{}: {}; expected one of the keys 'text' and 'messages'", at.file, at.line,
         has_text ? "found both 'text' and 'messages'" : "found " + keys_of(row));
  if (has_text) document.text = as_string(row["text"], "text", at);
  else read_conversation(row["messages"], at, document);
  return document;
}

}  // namespace

std::vector<Document> parse_jsonl_documents(std::string_view content, const std::string& file) {
  std::vector<Document> documents;
  int64_t number = 0;
  while (!content.empty()) {
    const std::string_view line = content.substr(0, content.find('\n'));
    content.remove_prefix(std::min(line.size() + 1, content.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) documents.push_back(document_of(line, {file, number}));
  }
  return documents;
}

std::vector<Document> read_jsonl_documents(const std::filesystem::path& path) {
  return parse_jsonl_documents(read_utf8(path), path.string());
}

}  // namespace switchyard::data
