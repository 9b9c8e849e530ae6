// Expressions of published tokenizers, written by hand. Each function gives the end of the word at a position where no
// word has begun; tests/io/splitter_test.cpp compares all with Oniguruma.
#include "io/tokenizer/scan.h"
#include "io/tokenizer/splitter.h"

#include <array>

namespace switchyard::io {
namespace {

constexpr CharClasses kSpaceLetterNumber = kSpace | kLetter | kNumber;

// Length of 's|'t|'re|'ve|'m|'ll|'d at `position`, or 0.
size_t contraction(std::string_view text, size_t position) {
  if (text[position] != '\'') return 0;
  static constexpr std::array<std::string_view, 7> kEndings{"s", "t", "re", "ve", "m", "ll", "d"};
  for (const std::string_view ending : kEndings)
    if (text.compare(position + 1, ending.size(), ending) == 0) return 1 + ending.size();
  return 0;
}

size_t end_of_gpt2_word(const CharTable& chars, std::string_view text, size_t position) {
  if (const size_t length = contraction(text, position)) return position + length;
  const bool has_space = text[position] == ' ' && position + 1 < text.size();
  const size_t start = has_space ? position + 1 : position;
  const Char c = chars.at(text, start);
  if (c.is(kLetter)) return end_of_run(chars, text, start, kLetter);
  if (c.is(kNumber)) return end_of_run(chars, text, start, kNumber);
  if (c.is(kSpace)) return end_of_space(chars, text, position, /*stop_at_newline=*/false);
  return end_of_others(chars, text, start, kSpaceLetterNumber);
}

// ` ?[^\s\p{L}\p{N}]+[\r\n]*` at `position`, where `c` stands; `position` when it does not match. `tail` may follow as well.
size_t end_of_signs(const CharTable& chars, std::string_view text, size_t position, Char c, char tail = '\n') {
  size_t start = position;
  if (text[position] == ' ') {
    if (++start == text.size()) return position;
    c = chars.at(text, start);
  }
  if (c.is(kSpaceLetterNumber)) return position;
  size_t end = end_of_others(chars, text, start + c.bytes, kSpaceLetterNumber);
  while (end < text.size() && (is_newline(text[end]) || text[end] == tail)) ++end;
  return end;
}

// Llama 3 and cl100k (3 digits at most), Qwen2 (1 digit).
template <size_t kMostDigits>
size_t end_of_llama3_word(const CharTable& chars, std::string_view text, size_t position) {
  if (const size_t length = folded_contraction(text, position)) return position + length;
  const Char c = chars.at(text, position);
  if (c.is(kLetter)) return end_of_run(chars, text, position + c.bytes, kLetter);
  if (c.is(kNumber)) return end_of_run(chars, text, position, kNumber, 0, kMostDigits);
  if (!is_newline(text[position])) {
    const size_t word = position + c.bytes;
    if (const size_t end = end_of_run(chars, text, word, kLetter); end > word) return end;
  }
  const size_t end = end_of_signs(chars, text, position, c);
  return end > position ? end : end_of_space(chars, text, position);
}

// A word of o200k without its contraction:
//   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+
//   [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*
// Letters without case and marks belong to both sets: where no small letter follows the run of the first set, the first
// expression gives characters back until such a one can be the second run, so that it ends behind the last of them.
size_t end_of_o200k_letters(const CharTable& chars, std::string_view text, size_t position, Char c) {
  const auto match = [&](size_t start, bool capitals_suffice) {
    size_t end = start, behind_caseless = start;
    while (end < text.size()) {
      const Char next = chars.at(text, end);
      if (next.is(kLower)) return end_of_run(chars, text, end, kLower | kCaseless | kMark);
      if (!next.is(kUpper | kCaseless | kMark)) break;
      end += next.bytes;
      if (!next.is(kUpper)) behind_caseless = end;
    }
    return capitals_suffice && behind_caseless == start ? end : behind_caseless;
  };
  const bool may_lead = !c.is(kLetter | kNumber) && !is_newline(text[position]);
  const size_t behind_lead = position + c.bytes;
  if (may_lead)
    if (const size_t end = match(behind_lead, false); end > behind_lead) return end;
  if (const size_t end = match(position, false); end > position) return end;
  if (may_lead)
    if (const size_t end = match(behind_lead, true); end > behind_lead) return end;
  return match(position, true);
}

size_t end_of_o200k_word(const CharTable& chars, std::string_view text, size_t position) {
  const Char c = chars.at(text, position);
  if (const size_t end = end_of_o200k_letters(chars, text, position, c); end > position) return end + folded_contraction(text, end);
  if (c.is(kNumber)) return end_of_run(chars, text, position, kNumber, 0, 3);
  const size_t end = end_of_signs(chars, text, position, c, '/');
  return end > position ? end : end_of_space(chars, text, position);
}

bool is_ascii_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_ascii_sign(char c) noexcept { return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~'); }

// The third expression of DeepSeek V3. Digits and what has no class match nothing: `position` then.
size_t end_of_deepseek_word(const CharTable& chars, std::string_view text, size_t position) {
  if (is_ascii_sign(text[position]) && position + 1 < text.size() && is_ascii_letter(text[position + 1])) {
    size_t end = position + 2;
    while (end < text.size() && is_ascii_letter(text[end])) ++end;
    return end;
  }
  const Char c = chars.at(text, position);
  const bool may_lead = !c.is(kLetter | kPunctuation | kSymbol) && !is_newline(text[position]);
  const size_t start = may_lead ? position + c.bytes : position;
  if (const size_t end = end_of_run(chars, text, start, kLetter | kMark); end > start) return end;
  if (c.is(kMark)) return position + c.bytes;
  const size_t signs = text[position] == ' ' ? position + 1 : position;
  if (const size_t end = end_of_run(chars, text, signs, kPunctuation | kSymbol); end > signs) return end_of_newlines(text, end);
  return c.is(kSpace) ? end_of_space(chars, text, position) : position;
}

// [一-龥぀-ゟ゠-ヿ]+
size_t end_of_deepseek_cjk(const CharTable&, std::string_view text, size_t position) {
  while (position < text.size() && static_cast<unsigned char>(text[position]) >= 0xE3) {
    const CodePoint c = decode_utf8(text, position);
    if ((c.value < 0x4E00 || c.value > 0x9FA5) && (c.value < 0x3040 || c.value > 0x30FF)) break;
    position += c.bytes;
  }
  return position;
}

template <size_t kMost>
size_t end_of_digits(const CharTable& chars, std::string_view text, size_t position) {
  return end_of_run(chars, text, position, kNumber, 0, kMost);
}

using EndOfWord = size_t (*)(const CharTable&, std::string_view, size_t);

// Words one behind the other; what matches nothing becomes words of its own between them.
template <EndOfWord kEnd>
class KnownSplitter final : public Splitter {
 public:
  void split(std::string_view text, std::vector<std::string_view>& words) const override {
    size_t done = 0;
    for (size_t position = 0; position < text.size();) {
      const size_t end = kEnd(chars_, text, position);
      if (end == position) {
        position += chars_.at(text, position).bytes;
        continue;
      }
      if (done < position) words.push_back(text.substr(done, position - done));
      words.push_back(text.substr(position, end - position));
      done = position = end;
    }
    if (done < text.size()) words.push_back(text.substr(done));
  }

 private:
  const CharTable& chars_ = char_table();
};

template <EndOfWord kEnd>
std::unique_ptr<Splitter> make() {
  return std::make_unique<KnownSplitter<kEnd>>();
}

constexpr KnownExpression kKnown[] = {
    {"gpt2", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", make<end_of_gpt2_word>},
    {"llama3", R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     make<end_of_llama3_word<3>>},
    {"qwen2", R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)", make<end_of_llama3_word<1>>},
    {"o200k",
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
     R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     make<end_of_o200k_word>},
    {"deepseek words",
     R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
     R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     make<end_of_deepseek_word>},
    {"deepseek cjk", "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+", make<end_of_deepseek_cjk>},
    {"three digits", R"(\p{N}{1,3})", make<end_of_digits<3>>},
    {"digits", R"(\p{N}+)", make<end_of_digits<SIZE_MAX>>},
    {"digit", R"(\p{N})", make<end_of_digits<1>>},
};

// Files spell line breaks inside an expression as escapes or as they are.
std::string with_escapes(std::string_view pattern) {
  std::string out;
  for (const char c : pattern) {
    if (is_newline(c)) {
      out += c == '\n' ? "\\n" : "\\r";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

std::span<const KnownExpression> known_expressions() { return kKnown; }

const KnownExpression* find_known_expression(std::string_view pattern) {
  const std::string escaped = with_escapes(pattern);
  for (const KnownExpression& known : kKnown)
    if (escaped == known.pattern) return &known;
  return nullptr;
}

std::unique_ptr<Splitter> make_known_splitter(std::string_view pattern) {
  const KnownExpression* known = find_known_expression(pattern);
  return known ? known->make() : nullptr;
}

std::unique_ptr<Splitter> make_gpt2_splitter() { return make<end_of_gpt2_word>(); }

}  // namespace switchyard::io
