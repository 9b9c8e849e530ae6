// From the bytes of one token after another to text that can be shown: whole characters only, and nothing of a stop string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

class TextStream {
 public:
  // Stop strings may lie across tokens; the earliest one ends the text and is not part of it. Empty ones are ignored.
  explicit TextStream(std::vector<std::string> stop_strings = {});

  // Takes the bytes of the next token and returns what can be shown now. A character whose last bytes are missing, and
  // text that may be the beginning of a stop string, are held back. Bytes that are no UTF-8 become U+FFFD.
  [[nodiscard]] std::string push(std::string_view bytes);

  // The rest, when no more tokens come: what was held back; an unfinished character becomes U+FFFD.
  [[nodiscard]] std::string finish();

  // True when a stop string was found: nothing more will be shown.
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;  // bytes that are not shown yet
  bool stopped_ = false;
};

// `text` with every byte that is not part of a well-formed character replaced: one U+FFFD per maximal subpart (Unicode 15,
// section 3.9). With `keep_tail`, a character that is only cut off at the end stays in `text` and is not returned.
[[nodiscard]] std::string take_valid_utf8(std::string& text, bool keep_tail);

}  // namespace switchyard
