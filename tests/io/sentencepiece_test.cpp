// .model files against the sentencepiece library: see tests/data/tokenizers/README.md.
#include "base/files.h"
#include "expect_error.h"
#include "io/tokenizer/sentencepiece_tokenizer.h"
#include "test_files.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace switchyard::sentencepiece_tests {
namespace {

using nlohmann::json;
using testing::expect_error;
using Ids = std::vector<int32_t>;

const std::string kFolder = std::string(SW_TEST_DATA) + "/tokenizers/";

class GoldenSentencePiece : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenSentencePiece, GivesTheSameIds) {
  const std::string folder = kFolder + GetParam();
  const auto tokenizer = load_tokenizer(folder + "/tokenizer.model");
  const auto again = parse_tokenizer(tokenizer->to_json().dump(), "written");
  const json golden = json::parse(read_text_file(folder + "/cases.json"));
  int compared = 0;
  for (const json& test : golden.at("cases")) {
    if (!test.contains("sentencepiece_ids")) continue;  // a control character or an added token in the text
    const auto& text = test.at("text").get_ref<const std::string&>();
    const auto ids = test.at("sentencepiece_ids").get<Ids>();
    EXPECT_EQ(tokenizer->encode(text), ids) << test.dump();
    EXPECT_EQ(tokenizer->encode(text, true), ids) << test.dump();  // no template without a tokenizer_config.json
    EXPECT_EQ(again->encode(text), ids) << test.dump();
    EXPECT_EQ(again->decode(ids), tokenizer->decode(ids));
    ++compared;
  }
  EXPECT_EQ(compared, 89);
}

INSTANTIATE_TEST_SUITE_P(Styles, GoldenSentencePiece, ::testing::Values("llama_spm", "t5_spm"), [](const auto& info) { return std::string(info.param); });

// What readers get that do not know our key: equal to sentencepiece where no control piece is spelt.
TEST(SentencePiece, TheConversionAgrees) {
  for (const char* style : {"llama_spm", "t5_spm"}) {
    json file = json::parse(load_tokenizer(kFolder + style + "/tokenizer.model")->to_json().dump());
    EXPECT_EQ(file["model"].erase("switchyard_sentencepiece_model"), 1U);
    const auto converted = parse_tokenizer(file.dump(), "converted");
    const auto cases = json::parse(read_text_file(kFolder + style + "/cases.json")).at("cases");
    int equal = 0;
    for (const json& test : cases)
      if (test.contains("sentencepiece_ids"))
        equal += converted->encode(test.at("text").get_ref<const std::string&>()) == test.at("sentencepiece_ids").get<Ids>();
    EXPECT_EQ(equal, 89) << style;
  }
}

TEST(SentencePiece, TextsComeBack) {
  const auto tokenizer = load_tokenizer(kFolder + "llama_spm/tokenizer.model");
  for (const std::string text : {"Hello world", " two  blanks ", "", " ", "zażółć 中文 😀\n\ttab"}) EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_EQ(tokenizer->decode(Ids{1, 2}), "");
  EXPECT_EQ(tokenizer->decode(Ids{1, 2}, false), "<s></s>");
  EXPECT_EQ(tokenizer->decode(Ids{0}), " \u2047 ");
  expect_error(ErrorKind::usage, {"650"}, [&] { (void)tokenizer->decode(Ids{650}); });
}

TEST(SentencePiece, TheTemplateStandsBesideTheModel) {
  const testing::TempDir dir;
  write_file_atomic(dir / "tokenizer.model", read_text_file(kFolder + "llama_spm/tokenizer.model"));
  const auto ids_with = [&](const char* config) {
    write_file_atomic(dir / "tokenizer_config.json", config);
    const auto tokenizer = load_tokenizer(dir.path());
    EXPECT_EQ(parse_tokenizer(tokenizer->to_json().dump(), "written")->encode("", true), tokenizer->encode("", true));
    return tokenizer->encode("", true);
  };
  EXPECT_EQ(ids_with("{}"), Ids{});
  EXPECT_EQ(ids_with(R"({"tokenizer_class": "LlamaTokenizer"})"), Ids{1});
  EXPECT_EQ(ids_with(R"({"add_bos_token": true, "add_eos_token": true})"), (Ids{1, 2}));
  EXPECT_EQ(ids_with(R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": false})"), Ids{});
}

// A model file by hand: protobuf fields of pieces and specs.
std::string field(int number, std::string_view bytes) {
  std::string out(1, static_cast<char>(number << 3 | 2));
  out += static_cast<char>(bytes.size());
  return out += bytes;
}

std::string number(int field, int value) { return {static_cast<char>(field << 3), static_cast<char>(value)}; }

std::string piece(std::string_view text, float score, int type) {
  std::string bits(4, '\0');
  std::memcpy(bits.data(), &score, 4);
  return field(1, field(1, text) + static_cast<char>(2 << 3 | 5) + bits + number(3, type));
}

std::unique_ptr<Tokenizer> model(const std::string& bytes) { return std::make_unique<io::SentencePieceTokenizer>(bytes, io::SentencePieceEnds{}, "t.model"); }

const std::string kPieces = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("a", -1, 1) + piece("b", -2, 1) + piece("ab", -1.5F, 1) + piece("<x>", 0, 4);
const std::string kPlain = field(3, number(3, 0) + number(4, 0));  // no blank in front, white space as it is
const std::string kBpe = field(2, std::string(1, static_cast<char>(3 << 3)) + '\2');

TEST(SentencePiece, PiecesOfTheUserAreNeverTornApart) {
  for (const std::string& kind : {std::string(), kBpe}) {
    const auto tokenizer = model(kPieces + kind + kPlain);
    EXPECT_EQ(tokenizer->encode("ab<x>a"), (Ids{4, 5, 2}));
    EXPECT_EQ(tokenizer->encode("<s>"), Ids{0});  // a control piece is no text; a run of unknown characters is one piece
    EXPECT_EQ(tokenizer->encode("aéüb"), (Ids{2, 0, 3}));
    EXPECT_EQ(tokenizer->decode(Ids{4, 5}), "ab<x>");
  }
}

// Characters outside the vocabulary still merge into pieces; unused pieces come as their parts.
TEST(SentencePiece, BpeMergesByTheTextOfPieces) {
  const auto tokenizer =
      model(piece("<unk>", 0, 2) + piece("xy", -1, 1) + piece("xyz", -3, 1) + piece("a", -5, 1) + piece("b", -5, 1) + piece("ab", -4, 5) + kBpe + kPlain);
  EXPECT_EQ(tokenizer->encode("xyzxyx"), (Ids{2, 1, 0}));
  EXPECT_EQ(tokenizer->encode("ab"), (Ids{3, 4}));
}

TEST(SentencePiece, WhiteSpaceIsHandledAsTheSpecSays) {
  const std::string pieces = kPieces + piece("\u2581", -3, 1) + piece(" ", -3, 1);
  EXPECT_EQ(model(pieces + kPlain)->encode("  a "), (Ids{6, 6, 2, 6}));
  EXPECT_EQ(model(pieces)->encode("  a   b "), (Ids{6, 2, 6, 3}));
  EXPECT_EQ(model(pieces)->encode("   "), Ids{});
  EXPECT_EQ(model(pieces + field(3, number(5, 0)))->encode(" a b"), (Ids{7, 2, 7, 3}));
  EXPECT_EQ(model(pieces)->decode(Ids{6, 2, 6, 3}), "a b");
}

TEST(SentencePiece, DamagedFilesAreNamed) {
  const auto bad = [](const std::string& bytes, std::initializer_list<std::string_view> words, ErrorKind kind = ErrorKind::checkpoint) {
    expect_error(kind, words, [&] { (void)model(bytes); });
    expect_error(kind, {"t.model"}, [&] { (void)model(bytes); });
  };
  bad("", {"no pieces"});
  bad("\x0A", {"cut off"});
  bad("\x0A\x7F", {"longer than the rest"});
  bad(std::string(11, '\xFF'), {"64 bits"});
  bad("\x0B", {"wire type"});
  bad(kPieces + piece("a", 0, 1), {"'a'", "twice"});
  bad(piece("a", 0, 1), {"0 unknown pieces"});
  bad(kPieces + piece("", 0, 1), {"piece 6", "no text"});
  bad(kPieces + piece("\xC3", 0, 1), {"piece 6", "no UTF-8"});
  bad(kPieces + piece("c", 0, 7), {"piece 6", "type 7"});
  bad(kPieces + piece("<0x41>", 0, 6), {"1 byte pieces"});
  bad(kPieces + field(2, number(3, 3)), {"model_type 3", "unigram"}, ErrorKind::unsupported);
  bad(kPieces + field(5, field(2, "x")), {"denormalizer_spec"}, ErrorKind::unsupported);
  bad(kPieces + field(3, field(2, "abc")), {"character map"});
}

}  // namespace
}  // namespace switchyard::sentencepiece_tests
