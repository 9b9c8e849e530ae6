#include "data/chat.h"

namespace switchyard::data {

RenderedChat render_chat(std::span<const ChatTurn> turns) {
  RenderedChat chat;
  for (const ChatTurn& turn : turns) {
    chat.text += "<|" + turn.role + "|>\n";
    const auto begin = static_cast<int64_t>(chat.text.size());
    chat.text += turn.content + "\n";
    if (turn.role == "assistant") chat.scored.push_back({begin, static_cast<int64_t>(chat.text.size())});
  }
  return chat;
}

}  // namespace switchyard::data
