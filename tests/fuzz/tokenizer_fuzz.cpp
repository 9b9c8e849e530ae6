// The input is a tokenizer.json, and also a text for a tokenizer that is known.
#include "fuzz.h"
#include "io/tokenizer/splitter.h"
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/utf8.h"

#include <array>
#include <vector>

using namespace switchyard;

namespace {

const Tokenizer& trained() {
  static const auto tokenizer = [] {
    const std::array<std::string_view, 2> texts{"the cat sat on the mat, the cat's 12 hats", "\xC3\xA9\xC3\xA9 \n\n  \xFF\xFF"};
    return train_bpe(texts, 290);
  }();
  return *tokenizer;
}

void check_text(std::string_view text) {
  fuzz::promise(trained().decode(trained().encode(text), false) == text, "decode(encode(text)) is the text");
  const io::Stretch stretch = io::next_stretch(text, 0);
  if (!stretch.is_valid) return;
  static const auto oracles = [] {
    std::vector<std::unique_ptr<io::Splitter>> made;
    for (const auto& known : io::known_expressions()) made.push_back(io::make_rule_splitter({.pattern = std::string(known.pattern)}, "oracle"));
    return made;
  }();
  for (size_t i = 0; i < oracles.size(); ++i) {
    std::vector<std::string_view> got, want;
    io::known_expressions()[i].make()->split(stretch.text, got);
    oracles[i]->split(stretch.text, want);
    fuzz::promise(got == want, "the splitter equals the expression");
  }
}

void check_file(std::string_view json) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (!fuzz::accepts({ErrorKind::checkpoint, ErrorKind::unsupported}, [&] { tokenizer = parse_tokenizer(json, "fuzz.json"); })) return;
  const auto again = parse_tokenizer(tokenizer->to_json().dump(), "written.json");
  for (const std::string_view text : {std::string_view("Hello, w\xC3\xB6rld's 42\xFF  <s> \n"), json}) {
    // A byte may have no token, and an expression may run away.
    fuzz::accepts({ErrorKind::unsupported, ErrorKind::checkpoint}, [&] {
      const auto ids = tokenizer->encode(text, true);
      fuzz::promise(again->encode(text, true) == ids, "the written file means the same");
      fuzz::promise(again->decode(ids) == tokenizer->decode(ids), "and decodes alike");
      for (const int32_t id : ids) fuzz::promise(id >= 0 && id < tokenizer->vocab_size(), "ids are below vocab_size");
    });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  check_text(input);
  check_file(input);
  return 0;
}
