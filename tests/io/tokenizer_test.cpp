#include "io/tokenizer/tokenizer.h"

#include "base/files.h"
#include "expect_error.h"
#include "io/tokenizer/pipeline_tokenizer.h"
#include "test_files.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <random>

namespace switchyard {
namespace {

using nlohmann::json;
using testing::expect_error;
using Ids = std::vector<int32_t>;

const std::string kFolder = std::string(SW_TEST_DATA) + "/tokenizers/";

json golden(const std::string& style) { return json::parse(read_text_file(kFolder + style + "/tokenizer.json")); }

TEST(ByteTokenizer, IdsAreBytes) {
  const auto tokenizer = make_byte_tokenizer();
  EXPECT_EQ(tokenizer->encode("a\xFF<|endoftext|>b"), (Ids{'a', 255, 256, 'b'}));
  EXPECT_EQ(tokenizer->encode(std::string_view("\0", 1), true), Ids{0});
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->eos_id(), 256);
  EXPECT_EQ(tokenizer->decode(Ids{'a', 256, 255}), "a\xFF");
  EXPECT_EQ(tokenizer->decode(Ids{'a', 256}, false), "a<|endoftext|>");
  for (const int32_t id : {-1, 257, INT32_MAX})
    expect_error(ErrorKind::usage, {std::to_string(id), "257"}, [&] { (void)tokenizer->decode(Ids{id}); });
}

TEST(ByteTokenizer, IsWrittenAndReadBack) {
  const testing::TempDir dir;
  const auto tokenizer = make_byte_tokenizer();
  write_file_atomic(dir / "tokenizer.json", tokenizer->to_json().dump(1));
  for (const auto& path : {dir.path(), dir / "tokenizer.json"}) {
    const auto read = load_tokenizer(path);
    EXPECT_EQ(dynamic_cast<const io::PipelineTokenizer&>(*read).spec(), dynamic_cast<const io::PipelineTokenizer&>(*tokenizer).spec());
  }
  expect_error(ErrorKind::io, {"missing.json"}, [&] { (void)load_tokenizer(dir / "missing.json"); });
}

// Whatever the bytes are, they come back; NFC (qwen2) changes text by design and is left out.
TEST(Tokenizers, BytesSurviveTheRoundTrip) {
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  tokenizers.push_back(make_byte_tokenizer());
  for (const char* style : {"gpt2", "llama3", "o200k", "deepseek"}) tokenizers.push_back(load_tokenizer(kFolder + style));
  const std::string_view parts[] = {"<|endoftext|>", " the", "\xE2\x82", "é", "GATE", "<foo bar>", "  ", "\n", "中"};
  constexpr uint32_t kSeed = 13;
  std::mt19937 random(kSeed);
  for (int round = 0; round < 1000; ++round) {
    std::string text;
    for (uint32_t length = random() % 40; length > 0; --length) {
      if (random() % 2 == 0) {
        text += static_cast<char>(random());
      } else {
        text += parts[random() % std::size(parts)];
      }
    }
    for (const auto& tokenizer : tokenizers)
      ASSERT_EQ(tokenizer->decode(tokenizer->encode(text), false), text) << "seed " << kSeed << ", round " << round;
  }
}

TEST(Tokenizers, KnowTheirEndTokens) {
  const auto expect = [](const char* style, std::optional<int32_t> bos, std::optional<int32_t> eos) {
    const auto tokenizer = load_tokenizer(kFolder + style);
    EXPECT_EQ(tokenizer->bos_id(), bos) << style;
    EXPECT_EQ(tokenizer->eos_id(), eos) << style;
  };
  expect("gpt2", std::nullopt, 0);
  expect("llama3", 750, 751);
  expect("qwen2", std::nullopt, 650);
  expect("deepseek", 0, 1);
}

TEST(AddedTokens, StripAndWholeWordsAreHonoured) {
  json file = golden("gpt2");
  file["added_tokens"].push_back({{"id", 702}, {"content", "<l>"}, {"lstrip", true}, {"special", true}});
  file["added_tokens"].push_back({{"id", 703}, {"content", "<r>"}, {"rstrip", true}, {"special", true}});
  file["added_tokens"].push_back({{"id", 704}, {"content", "<r>>"}, {"normalized", false}});
  file["added_tokens"].push_back({{"id", 705}, {"content", "<e>é"}, {"normalized", false}});
  const auto tokenizer = parse_tokenizer(file.dump(), "test");
  const auto id = [&](std::string_view text) { return tokenizer->encode(text).at(0); };
  EXPECT_EQ(tokenizer->encode("a \n<l> b"), (Ids{id("a"), 702, id(" b")}));
  EXPECT_EQ(tokenizer->encode("a <r> \u3000b"), (Ids{id("a"), id(" "), 703, id("b")}));
  EXPECT_EQ(tokenizer->encode("<r> <l>"), (Ids{703, 702}));
  EXPECT_EQ(tokenizer->encode("<r>>"), Ids{704});  // the longest
  EXPECT_EQ(tokenizer->decode(Ids{705}), "<e>é");
  EXPECT_EQ(tokenizer->encode("GATE"), Ids{701});
  EXPECT_EQ(tokenizer->encode("-GATE."), (Ids{id("-"), 701, id(".")}));
  for (const char* text : {"aGATE", "GATEs", "GATE_", "éGATE", "GATE\u0301"})
    for (const int32_t each : tokenizer->encode(text)) EXPECT_NE(each, 701) << text;
}

TEST(ParseTokenizer, TheTemplateSurroundsTheText) {
  json file = golden("llama3");
  json& processor = file["post_processor"]["processors"][1];
  processor["single"].push_back({{"SpecialToken", {{"id", "<|end_of_text|>"}, {"type_id", 0}}}});
  processor["special_tokens"]["<|end_of_text|>"] = {{"id", "<|end_of_text|>"}, {"ids", {751}}, {"tokens", {"<|end_of_text|>"}}};
  const auto tokenizer = parse_tokenizer(file.dump(), "test");
  EXPECT_EQ(tokenizer->encode("", true), (Ids{750, 751}));
  EXPECT_EQ(parse_tokenizer(tokenizer->to_json().dump(), "again")->encode("", true), (Ids{750, 751}));
  EXPECT_EQ(tokenizer->encode(""), Ids{});
}

TEST(ParseTokenizer, StepsRunInSequence) {
  json file = golden("gpt2");
  const auto with_digits = [&](bool individual) {
    const json digits = {{"type", "Digits"}, {"individual_digits", individual}};
    file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {digits, golden("gpt2")["pre_tokenizer"]}}};
    file["model"]["vocab"]["12"] = 900;
    file["model"]["merges"].insert(file["model"]["merges"].begin(), "1 2");
    file["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFKC"}}, {{"type", "NFD"}}}}};
    return parse_tokenizer(file.dump(), "test");
  };
  EXPECT_EQ(with_digits(false)->encode("12").size(), 1U);
  EXPECT_EQ(with_digits(true)->encode("12").size(), 2U);
  const auto tokenizer = with_digits(true);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("ﬁé")), "fie\u0301");
  EXPECT_EQ(parse_tokenizer(tokenizer->to_json().dump(), "again")->encode("ﬁé 12"), tokenizer->encode("ﬁé 12"));
}

// A file in which `path` is replaced by `value` gives this error.
void expect_bad(const char* style, const char* path, const json& value, ErrorKind kind,
                std::initializer_list<std::string_view> words) {
  json file = golden(style);
  file[json::json_pointer(path)] = value;
  SCOPED_TRACE(path);
  expect_error(kind, words, [&] { (void)parse_tokenizer(file.dump(), "t.json"); });
  expect_error(kind, {"t.json"}, [&] { (void)parse_tokenizer(file.dump(), "t.json"); });
}

TEST(ParseTokenizer, NamesComponentsThatAreNotSupported) {
  const auto kind = ErrorKind::unsupported;
  expect_bad("gpt2", "/model/type", "WordLevel", kind, {"model", "'WordLevel'", "BPE", "Unigram", "WordPiece"});
  expect_bad("gpt2", "/model/dropout", 0.1, kind, {"model.dropout", "0.1", "chance"});
  expect_bad("gpt2", "/model/end_of_word_suffix", "</w>", kind, {"model", "suffix", "ByteLevel"});
  expect_bad("gpt2", "/normalizer", {{"type", "Uppercase"}}, kind, {"normalizer", "'Uppercase'", "NFC", "Precompiled"});
  expect_bad("gpt2", "/pre_tokenizer", {{"type", "UnicodeScripts"}}, kind, {"pre_tokenizer", "'UnicodeScripts'", "ByteLevel", "Metaspace"});
  expect_bad("llama3", "/pre_tokenizer/pretokenizers/2", {{"type", "Whitespace"}}, kind, {"pretokenizers[2]", "'Whitespace'", "last"});
  expect_bad("gpt2", "/post_processor/type", "CutProcessing", kind, {"post_processor", "'CutProcessing'", "TemplateProcessing"});
  expect_bad("gpt2", "/decoder/type", "CTC", kind, {"decoder", "'CTC'", "ByteLevel"});
}

TEST(ParseTokenizer, NamesFaultsOfTheFile) {
  const auto kind = ErrorKind::checkpoint;
  for (const auto& [text, word] : {std::pair("", "not valid JSON"), std::pair("{", "not valid JSON"),
                                   std::pair("[]", "expected an object"), std::pair("{}", "'model' is missing")})
    expect_error(kind, {"t.json", word}, [&, text = text] { (void)parse_tokenizer(text, "t.json"); });
  expect_bad("gpt2", "/model/vocab", 3, kind, {"model.vocab", "an object", "3"});
  expect_bad("gpt2", "/model/vocab/!", "x", kind, {"model.vocab.!", "an integer", "\"x\""});
  expect_bad("gpt2", "/model/vocab/!", -1, kind, {"model.vocab.!", "-1"});
  expect_bad("gpt2", "/model/vocab/!", 4294967297, kind, {"model.vocab.!", "4294967297", "2^31"});
  expect_bad("gpt2", "/model/vocab/!", 5, kind, {"model.vocab", "id 5", "twice"});
  expect_bad("gpt2", "/model/merges", 3, kind, {"model.merges", "an array"});
  expect_bad("gpt2", "/model/merges/0", "ab", kind, {"model.merges[0]", "two tokens"});
  expect_bad("gpt2", "/model/merges/0", "a b c", kind, {"model.merges[0]", "two tokens"});
  expect_bad("gpt2", "/model/merges/0", {"a"}, kind, {"model.merges[0]", "a pair"});
  expect_bad("gpt2", "/model/merges/0", {"a", "nowhere"}, kind, {"model.merges[0]", "nowhere"});
  expect_bad("gpt2", "/added_tokens/1/id", 3, kind, {"<foo bar>", "id 3", "another token"});
  expect_bad("gpt2", "/added_tokens/0/id", 3, kind, {"<|endoftext|>", "id 3", "model.vocab gives it 0"});
  expect_bad("gpt2", "/added_tokens/2/content", "<foo bar>", kind, {"<foo bar>", "twice"});
  expect_bad("gpt2", "/added_tokens/0/special", 1, kind, {"added_tokens[0].special", "true or false"});
  expect_bad("llama3", "/pre_tokenizer/pretokenizers/0/pattern/Regex", "(", kind, {"pretokenizers[0].pattern", "not a regular expression"});
  expect_bad("llama3", "/pre_tokenizer/pretokenizers/0/pattern", json::object(), kind, {"pattern", "'String' is missing"});
  expect_bad("llama3", "/pre_tokenizer/pretokenizers/0/behavior", "Kept", kind, {"behavior", "Isolated", "Kept"});
  expect_bad("llama3", "/post_processor/processors/1/single", json::array(), kind, {"single", "'A'"});
  expect_bad("llama3", "/post_processor/processors/1/single/1/Sequence/id", "B", kind, {"single[1]", "'A'"});
  expect_bad("llama3", "/post_processor/processors/1/special_tokens", json::object(), kind, {"<|begin_of_text|>", "missing"});
  expect_bad("llama3", "/post_processor/processors/1/special_tokens/<|begin_of_text|>/ids/0", 9999, kind,
             {"<|begin_of_text|>", "9999", "not in the vocabulary"});
}

// Sixty doublings of every letter would be more than a memory holds.
TEST(ParseTokenizer, ReplacementsCannotFillTheMemory) {
  const json doubling = {{"type", "Replace"}, {"pattern", {{"Regex", "."}}}, {"content", "xx"}};
  json file = golden("gpt2");
  file["normalizer"] = {{"type", "Sequence"}, {"normalizers", json(60, doubling)}};
  const auto tokenizer = parse_tokenizer(file.dump(), "t.json");
  expect_error(ErrorKind::checkpoint, {"replacements", "of a text of 3"}, [&] { (void)tokenizer->encode("abc"); });
  file = golden("llama_sp");
  file["decoder"] = {{"type", "Sequence"}, {"decoders", json(60, doubling)}};
  expect_error(ErrorKind::checkpoint, {"replacements"}, [&] { (void)parse_tokenizer(file.dump(), "t.json")->decode(Ids{5, 6}, false); });
}

TEST(ParseTokenizer, AByteWithoutATokenIsNamedWhenItIsMet) {
  json file = golden("gpt2");
  file["model"]["merges"] = json::array();
  file["model"]["vocab"].erase("!");
  const auto tokenizer = parse_tokenizer(file.dump(), "t.json");
  EXPECT_EQ(tokenizer->encode("a").size(), 1U);
  expect_error(ErrorKind::unsupported, {"0x21"}, [&] { (void)tokenizer->encode("a!"); });
}

}  // namespace
}  // namespace switchyard
