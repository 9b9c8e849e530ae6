#include "data/jsonl_documents.h"

#include "data/chat.h"
#include "data/text_documents.h"
#include "io/strict_json.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::data {
namespace {

using io::JsonAt;

bool is_word(std::string_view text) {
  const auto is_word_character = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), is_word_character);
}

RenderedChat read_conversation(const JsonAt& messages) {
  std::vector<ChatTurn> turns;
  for (size_t i = 0; i < messages.size(); ++i) {
    const JsonAt message = messages.item(i), role = message.at("role");
    turns.push_back({role.as_string(), message.at("content").as_string()});
    if (!is_word(turns.back().role)) role.wrong("a word such as system, user or assistant");
  }
  RenderedChat chat = render_chat(turns);
  if (chat.scored.empty()) messages.wrong("at least one turn of the role 'assistant' (the loss falls on these only)");
  return chat;
}

// `row` knows the file and line.
Document document_of(const JsonAt& row, std::string name) {
  Document document{.name = row.get_string("title", ""), .domain = row.get_string("domain", ""), .text = {}, .scored = {}};
  if (document.name.empty()) document.name = std::move(name);
  const bool has_text = row.has("text");
  if (has_text == row.has("messages")) row.wrong(has_text ? "only one of the keys 'text' and 'messages'" : "the key 'text' or 'messages'");
  if (has_text) {
    document.text = row.at("text").as_string();
  } else {
    RenderedChat chat = read_conversation(row.at("messages"));
    document.text = std::move(chat.text);
    document.scored = std::move(chat.scored);
  }
  return document;
}

}  // namespace

std::vector<Document> parse_jsonl_documents(std::string_view content, const std::string& file) {
  const std::string short_name = std::filesystem::path(file).filename().string();
  std::vector<Document> documents;
  for (int64_t number = 1; !content.empty(); ++number) {
    const std::string_view line = content.substr(0, content.find('\n'));
    content.remove_prefix(std::min(line.size() + 1, content.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", file, number);
    const nlohmann::json row = io::parse_strict_json(line, where);
    documents.push_back(document_of(JsonAt(row, where), fmt::format("{}:{}", short_name, number)));
  }
  return documents;
}

std::vector<Document> read_jsonl_documents(const std::filesystem::path& path) {
  return parse_jsonl_documents(read_utf8(path), path.string());
}

}  // namespace switchyard::data
