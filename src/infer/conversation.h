// A conversation with a model: messages, the chat template that turns them into a prompt, and answers.
#pragma once

#include "infer/generate.h"
#include "io/chat/template.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>

namespace switchyard {

class Conversation {
 public:
  // `tokenizer_config`: of the model's folder (chat_template, bos_token, eos_token). Without a chat_template a plain one is used:
  // "role: content" line by line. `name` starts errors of the template.
  Conversation(const nlohmann::ordered_json& tokenizer_config, const std::string& name);

  [[nodiscard]] bool has_own_template() const noexcept { return has_own_template_; }
  [[nodiscard]] const nlohmann::ordered_json& messages() const noexcept { return messages_; }
  void add(const std::string& role, const std::string& content);

  // The text that the model gets for the messages so far.
  [[nodiscard]] std::string prompt(bool add_generation_prompt = true) const;
  // What the template writes behind an answer, without white space; empty when it writes nothing.
  [[nodiscard]] std::string end_of_answer() const;

  // Generates an answer to the messages and adds it. Ends at the tokenizer's end token, at the template's end of an answer and as
  // `options` say; the finish reason of the template's end is "eos". Throws what generate and the template throw.
  Generated answer(LanguageModel& model, const Tokenizer& tokenizer, const GenerateOptions& options, const TokenSink& sink = {});

 private:
  [[nodiscard]] std::string render(const nlohmann::ordered_json& messages, bool add_generation_prompt) const;

  io::ChatTemplate template_;
  bool has_own_template_ = false;
  nlohmann::ordered_json variables_, messages_ = nlohmann::ordered_json::array();
};

}  // namespace switchyard
