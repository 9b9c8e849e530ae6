#include "infer/conversation.h"

#include "io/tokenizer/tokenizer.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using nlohmann::ordered_json;

constexpr const char* kPlain =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";

// A text, or the template named "default" of a list of named ones.
std::optional<std::string> chat_template_of(const ordered_json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array())
    for (const auto& item : *found)
      if (item.is_object() && item.value("name", "") == "default" && item.contains("template") && item["template"].is_string())
        return item["template"].get<std::string>();
  return std::nullopt;
}

// A special token is a text or an object with its content.
std::optional<std::string> token_text(const ordered_json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) return (*found)["content"].get<std::string>();
  return std::nullopt;
}

std::string without_spaces(const std::string& text) {
  const char* spaces = " \t\n\r";
  const size_t first = text.find_first_not_of(spaces), last = text.find_last_not_of(spaces);
  return first == text.npos ? "" : text.substr(first, last - first + 1);
}

}  // namespace

Conversation::Conversation(const ordered_json& tokenizer_config, const std::string& name)
    : template_(io::ChatTemplate::parse(chat_template_of(tokenizer_config).value_or(kPlain), name + ": chat_template")),
      has_own_template_(chat_template_of(tokenizer_config).has_value()) {
  for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"})
    if (const auto text = token_text(tokenizer_config, key)) variables_[key] = *text;
}

void Conversation::add(const std::string& role, const std::string& content) { messages_.push_back({{"role", role}, {"content", content}}); }

std::string Conversation::render(const ordered_json& messages, bool add_generation_prompt) const {
  ordered_json variables = variables_;
  variables["messages"] = messages;
  variables["add_generation_prompt"] = add_generation_prompt;
  return template_.render(variables);
}

std::string Conversation::prompt(bool add_generation_prompt) const { return render(messages_, add_generation_prompt); }

std::string Conversation::end_of_answer() const {
  const std::string mark = "answer-to-find";
  ordered_json messages = messages_;
  messages.push_back({{"role", "assistant"}, {"content", mark}});
  const std::string text = render(messages, false);
  const size_t found = text.rfind(mark);
  return found == text.npos ? "" : without_spaces(text.substr(found + mark.size()));
}

Generated Conversation::answer(LanguageModel& model, const Tokenizer& tokenizer, const GenerateOptions& options, const TokenSink& sink) {
  const std::string text = prompt();
  // A template of its own writes the special tokens itself.
  const auto ids = has_own_template_ ? tokenizer.encode(text) : prompt_ids(tokenizer, text);
  GenerateOptions with_end = options;
  const std::string end = end_of_answer();
  auto end_id = end.empty() ? std::nullopt : tokenizer.token_to_id(end);
  // Only special tokens, which leave no text, are told by their id; an ordinary one is a text to stop at.
  if (end_id && !tokenizer.decode(std::span(&*end_id, 1)).empty()) end_id.reset();
  if (!end.empty() && !end_id) with_end.stop.push_back(end);
  if (!has_own_template_) with_end.stop.push_back("\nuser:");
  bool ended = false;
  Generated out = generate(model, &tokenizer, ids, with_end, [&](int32_t id, std::string_view shown) {
    if (end_id && id == *end_id && !options.ignore_eos) {
      ended = true;
      return false;
    }
    return sink ? sink(id, shown) : true;
  });
  if (ended) out.finish_reason = "eos";
  add("assistant", without_spaces(out.text));
  return out;
}

}  // namespace switchyard
