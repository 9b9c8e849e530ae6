#include "io/chat/template.h"

#include "io/chat/evaluator.h"
#include "switchyard/error.h"

namespace switchyard::io {

struct ChatTemplate::Parsed {
  std::string name;
  chat::Body body;
};

ChatTemplate ChatTemplate::parse(std::string_view text, const std::string& name) {
  ChatTemplate out;
  out.parsed_ = std::make_shared<const Parsed>(Parsed{name, chat::parse_template(text, name)});
  return out;
}

std::string ChatTemplate::render(const nlohmann::ordered_json& variables, const RenderOptions& options) const {
  return chat::evaluate(parsed_->body, parsed_->name, variables, options);
}

}  // namespace switchyard::io
