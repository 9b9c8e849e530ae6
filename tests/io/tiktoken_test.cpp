// .tiktoken files: against the definition done slowly, and, opt-in, against recorded ids of the real vocabularies.
#include "io/tokenizer/tiktoken.h"

#include "base/files.h"
#include "expect_error.h"
#include "io/tokenizer/base64.h"
#include "io/tokenizer/splitter.h"
#include "io/tokenizer/tokenizer.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace switchyard::tiktoken_tests {
namespace {

using testing::expect_error;
using Ids = std::vector<int32_t>;

TEST(Base64, EqualsTheExamplesOfTheStandard) {  // RFC 4648, section 10
  for (const auto& [bytes, text] :
       {std::pair("", ""), std::pair("f", "Zg=="), std::pair("fo", "Zm8="), std::pair("foo", "Zm9v"), std::pair("foob", "Zm9vYg==")}) {
    EXPECT_EQ(io::to_base64(bytes), text);
    EXPECT_EQ(io::from_base64(text), bytes);
  }
  for (const char* bad : {"Z", "Zg", "Zg=", "Z===", "Zh==", "Zm9=", "Zg==Zg==", "Zm 9", "Zm9v\n"}) EXPECT_EQ(io::from_base64(bad), std::nullopt) << bad;
}

// Bytes and random longer tokens. Every string of one letter is a token, so that equal ranks meet.
std::map<std::string, int32_t> random_ranks(uint32_t seed) {
  std::mt19937 random(seed);
  std::map<std::string, int32_t> ranks;
  for (int byte = 0; byte < 256; ++byte) ranks.emplace(std::string(1, static_cast<char>(byte)), byte);
  for (size_t length = 2; length < 9; ++length) ranks.emplace(std::string(length, 'a'), static_cast<int32_t>(ranks.size()));
  for (int i = 0; i < 200; ++i) {
    std::string token;
    for (uint32_t length = 2 + random() % 4; length > 0; --length) token += "abc "[random() % 4];
    ranks.emplace(token, static_cast<int32_t>(ranks.size()));
  }
  return ranks;
}

// Definition: of neighbours whose text is a token, the lowest rank merges, of equals the leftmost.
Ids slow_bpe(const std::map<std::string, int32_t>& ranks, std::string_view word) {
  if (const auto whole = ranks.find(std::string(word)); whole != ranks.end()) return {whole->second};
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  for (;;) {
    auto best = ranks.end();
    size_t at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = ranks.find(parts[i] + parts[i + 1]);
      if (found != ranks.end() && (best == ranks.end() || found->second < best->second)) best = found, at = i;
    }
    if (best == ranks.end()) break;
    parts[at] = best->first;
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) ids.push_back(ranks.at(part));
  return ids;
}

TEST(Tiktoken, EqualsTheDefinition) {
  const testing::TempDir dir;
  for (uint32_t seed = 0; seed < 5; ++seed) {
    const auto ranks = random_ranks(seed);
    std::string file;
    for (const auto& [token, rank] : ranks) file += io::to_base64(token) + " " + std::to_string(rank) + "\n";
    write_file_atomic(dir / "cl100k_base.tiktoken", file);
    const auto tokenizer = load_tokenizer(dir.path());
    const auto again = parse_tokenizer(tokenizer->to_json().dump(), "written");
    const auto splitter = io::make_known_splitter(io::find_tiktoken_encoding("cl100k_base")->pattern);
    std::mt19937 random(seed);
    for (int round = 0; round < 300; ++round) {
      std::string text;
      for (uint32_t length = random() % 60; length > 0; --length) text += "aaabc \n"[random() % 7];
      std::vector<std::string_view> words;
      splitter->split(text, words);
      Ids want;
      for (const std::string_view word : words)
        for (const int32_t id : slow_bpe(ranks, word)) want.push_back(id);
      ASSERT_EQ(tokenizer->encode(text), want) << "seed " << seed << ", round " << round << ": " << text;
      ASSERT_EQ(again->encode(text), want);
      ASSERT_EQ(tokenizer->decode(want), text);
    }
    EXPECT_EQ(tokenizer->eos_id(), 100257);
    EXPECT_EQ(tokenizer->encode("a<|endoftext|>", true).back(), 100257);
  }
}

TEST(Tiktoken, TheEncodingIsNamedByTheFileOrTheCaller) {
  const testing::TempDir dir;
  write_file_atomic(dir / "tokenizer.model", "YQ== 0\nYg== 1\r\nYWI= 2");
  EXPECT_EQ(load_tokenizer(dir.path(), "llama3")->encode("ab", true), (Ids{128000, 2}));
  expect_error(ErrorKind::unsupported, {"tokenizer.model", "'tokenizer'", "cl100k_base", "o200k_base"}, [&] { (void)load_tokenizer(dir.path()); });
  expect_error(ErrorKind::usage, {"'mine'", "llama3"}, [&] { (void)load_tokenizer(dir.path(), "mine"); });
  write_file_atomic(dir / "tokenizer.json", "{}");
  expect_error(ErrorKind::usage, {"tokenizer.json", "'llama3'"}, [&] { (void)load_tokenizer(dir.path(), "llama3"); });
}

TEST(Tiktoken, NamesTheLineThatIsWrong) {
  const auto& encoding = *io::find_tiktoken_encoding("gpt2");
  const auto bad = [&](const std::string& text, std::string_view word) {
    expect_error(ErrorKind::checkpoint, {"t.tiktoken", word}, [&] { (void)io::read_tiktoken(text, encoding, "t.tiktoken"); });
  };
  bad("", "no tokens");
  for (const char* line : {"x", "YQ== ", "YQ==", "YQ= 1", " 1", "YQ== -1", "YQ== 1x", "YQ== 99999999999", "=== 1"})
    bad(std::string("Yg== 0\n") + line + "\n", ":2:");
  bad("YQ== 0\nYQ== 1\n", ":2: the token is given twice");
}

}  // namespace
}  // namespace switchyard::tiktoken_tests
