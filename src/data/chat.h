// Conversations as text. The template, for every turn in order:
//
//   <|role|>\n
//   content\n
//
// The loss falls on what the assistant writes: content and closing newline of each of its turns, and the end-of-document
// token when the last turn is the assistant's. The headers, the other turns, and what follows an assistant turn inside
// the conversation are context only.
#pragma once

#include "data/document.h"

#include <span>
#include <string>
#include <vector>

namespace switchyard::data {

struct ChatTurn {
  std::string role;  // "system", "user", "assistant", ...
  std::string content;
};

struct RenderedChat {
  std::string text;
  std::vector<ByteRange> scored;  // one range per assistant turn
};

[[nodiscard]] RenderedChat render_chat(std::span<const ChatTurn> turns);

}  // namespace switchyard::data
