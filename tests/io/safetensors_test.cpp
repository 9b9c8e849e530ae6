#include "io/safetensors.h"

#include "expect_error.h"
#include "test_files.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstring>
#include <random>

namespace switchyard {
namespace {

using testing::expect_error;
using testing::TempDir;

std::string with_length(uint64_t length, std::string_view rest) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file.append(rest);
}

std::string file_of(std::string_view header, size_t data_bytes) {
  return with_length(header.size(), std::string(header) + std::string(data_bytes, '\1'));
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors_header(std::as_bytes(std::span(file)), "bad.safetensors");
}

void expect_bad(const std::string& file, std::initializer_list<std::string_view> words) {
  expect_error(ErrorKind::checkpoint, words, [&] { (void)parse(file); });
  expect_error(ErrorKind::checkpoint, {"bad.safetensors"}, [&] { (void)parse(file); });
}

// One tensor 'w' with these members, over `data_bytes` of data.
std::string tensor_file(std::string_view dtype, std::string_view shape, std::string_view offsets, size_t data_bytes) {
  return file_of(fmt::format(R"({{"w":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets), data_bytes);
}

TEST(SafetensorsHeader, ReadsTensorsInTheOrderOfTheirBytes) {
  const std::string file = file_of(R"({"__metadata__":{"format":"pt","a":"ü"},
    "a":{"dtype":"I64","shape":[],"data_offsets":[4,12]},
    "empty":{"dtype":"F64","shape":[0,3],"data_offsets":[12,12]},
    "b":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}   )", 12);
  const SafetensorsHeader header = parse(file);
  ASSERT_EQ(header.entries.size(), 3U);
  EXPECT_EQ(header.entries[0].name, "b");
  EXPECT_EQ(header.entries[0].dtype, DType::bf16);
  EXPECT_EQ(header.entries[0].shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(header.entries[0].numel(), 2);
  EXPECT_EQ(header.entries[1].name, "a");
  EXPECT_EQ(header.entries[1].numel(), 1);
  EXPECT_EQ(header.entries[2].numel(), 0);
  EXPECT_EQ(header.metadata.at("a"), "ü");
  EXPECT_TRUE(parse(file_of("{}", 0)).entries.empty());
}

TEST(SafetensorsHeader, NamesDamageOfTheFrame) {
  expect_bad("", {"0 bytes", "too short"});
  expect_bad("1234567", {"7 bytes", "too short"});
  expect_bad(with_length(3, "{}"), {"header of 3 bytes", "10 bytes", "truncated"});
  expect_bad(with_length(100'000'001, "{}"), {"100000001", "limit"});
  expect_bad(with_length(UINT64_MAX, "{}"), {"18446744073709551615", "limit"});
  expect_bad(with_length(UINT64_MAX - 7, "{}"), {"limit"});
  expect_bad(with_length(0, ""), {"does not start with '{'"});
  expect_bad(with_length(2, "[]"), {"does not start with '{'"});
  expect_bad(with_length(3, " {}"), {"does not start with '{'"});
  expect_bad(with_length(4, "{\"a\""), {"not valid JSON"});
  expect_bad(with_length(3, "{}x"), {"not valid JSON"});
  expect_bad(with_length(4, std::string_view("{}\0\0", 4)), {"not valid JSON"});
  expect_bad(file_of("{\"\xff\":1}", 0), {"not valid JSON"});
  std::string deep = R"({"w":)";
  for (int i = 0; i < 1000; ++i) deep += "[";
  expect_bad(file_of(deep, 0), {"deeper than 64"});
}

TEST(SafetensorsHeader, NamesRepeatedKeys) {
  const std::string tensor = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  expect_bad(file_of(R"({"w":)" + tensor + R"(,"w":)" + tensor + "}", 1), {"\"w\"", "twice"});
  expect_bad(tensor_file(R"("U8","dtype":"I8")", "[1]", "[0,1]", 1), {"\"dtype\"", "twice"});
}

TEST(SafetensorsHeader, NamesWrongMembers) {
  expect_bad(file_of(R"({"w":3})", 0), {"tensor 'w'", "expected an object", "found 3"});
  expect_bad(file_of(R"({"w":{}})", 0), {"tensor 'w'", "'dtype' is missing"});
  expect_bad(file_of(R"({"w":{"dtype":"U8","shape":[]}})", 0), {"tensor 'w'", "'data_offsets' is missing"});
  expect_bad(tensor_file(R"("F31")", "[1]", "[0,4]", 4), {"tensor 'w'.dtype", "\"F31\"", "F32"});
  expect_bad(tensor_file("8", "[1]", "[0,4]", 4), {"tensor 'w'.dtype", "expected a string", "found 8"});
  expect_bad(tensor_file(R"("U8")", "{}", "[0,4]", 4), {"tensor 'w'.shape", "expected an array"});
  expect_bad(tensor_file(R"("U8")", R"(["4"])", "[0,4]", 4), {"tensor 'w'.shape[0]", "expected an integer", "\"4\""});
  expect_bad(tensor_file(R"("U8")", "[4.0]", "[0,4]", 4), {"tensor 'w'.shape[0]", "expected an integer", "4.0"});
  expect_bad(tensor_file(R"("U8")", "[1,-4]", "[0,4]", 4), {"tensor 'w'.shape[1]", "at least 0", "-4"});
  expect_bad(tensor_file(R"("U8")", "[18446744073709551615]", "[0,4]", 4), {"shape[0]", "below 2^63"});
  expect_bad(tensor_file(R"("U8")", "[1e999]", "[0,4]", 4), {"not valid JSON"});
  expect_bad(file_of(R"({"__metadata__":{"a":1}})", 0), {"__metadata__.a", "expected a string"});
  expect_bad(file_of(R"({"__metadata__":[]})", 0), {"__metadata__", "expected an object"});
}

TEST(SafetensorsHeader, NamesShapesThatOverflow) {
  expect_bad(tensor_file(R"("F32")", "[4611686018427387904]", "[0,0]", 0), {"tensor 'w'.shape", "2^63"});
  expect_bad(tensor_file(R"("U8")", "[4294967296,4294967296]", "[0,0]", 0), {"tensor 'w'.shape", "2^63"});
  expect_bad(tensor_file(R"("U8")", "[9223372036854775807,3]", "[0,1]", 1), {"tensor 'w'.shape", "2^63"});
}

TEST(SafetensorsHeader, NamesWrongOffsets) {
  expect_bad(tensor_file(R"("U8")", "[4]", "[0]", 4), {"data_offsets", "[begin, end]"});
  expect_bad(tensor_file(R"("U8")", "[4]", "[0,4,8]", 4), {"data_offsets", "[begin, end]"});
  expect_bad(tensor_file(R"("U8")", "[4]", "[-4,0]", 4), {"data_offsets[0]", "at least 0"});
  expect_bad(tensor_file(R"("U8")", "[4]", "[4,0]", 4), {"data_offsets", "begin <= end <= 4"});
  expect_bad(tensor_file(R"("U8")", "[5]", "[0,5]", 4), {"data_offsets", "begin <= end <= 4"});
  expect_bad(tensor_file(R"("U8")", "[4]", "[9223372036854775803,9223372036854775807]", 4), {"begin <= end <= 4"});
  expect_bad(tensor_file(R"("F32")", "[2,3]", "[0,12]", 12), {"tensor 'w'", "12 bytes", "F32 [2, 3]", "needs 24"});
}

TEST(SafetensorsHeader, NamesOverlapsHolesAndTrailingBytes) {
  const auto two = [](const char* a, const char* b, size_t data_bytes) {
    return file_of(fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                               R"("b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})", a, b), data_bytes);
  };
  EXPECT_EQ(parse(two("[0,4]", "[4,8]", 8)).entries.size(), 2U);
  expect_bad(two("[0,4]", "[3,7]", 7), {"tensor 'b'", "byte 3", "expected 4", "overlaps"});
  expect_bad(two("[0,4]", "[0,4]", 4), {"byte 0", "expected 4", "overlaps"});
  expect_bad(two("[0,4]", "[5,9]", 9), {"tensor 'b'", "byte 5", "expected 4", "hole"});
  expect_bad(two("[1,5]", "[5,9]", 9), {"tensor 'a'", "byte 1", "expected 0", "hole"});
  expect_bad(two("[0,4]", "[4,8]", 9), {"9 bytes", "fill 8"});
}

// Whatever happens to the bytes, the result is a header within the file or Error{checkpoint}, never another exception.
TEST(SafetensorsHeader, RandomDamageIsAnErrorOrHarmless) {
  const std::string whole = read_text_file(std::string(SW_TEST_DATA) + "/golden/llama/model.safetensors");
  std::mt19937 random(11);
  uint64_t length = 0;
  std::memcpy(&length, whole.data(), 8);
  int refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string file = whole;
    if (i % 5 == 0) file.resize(random() % file.size());
    for (int flips = 0; flips < 3 && !file.empty(); ++flips)
      file[random() % std::min<size_t>(file.size(), length + 8)] ^= static_cast<char>(1 << (random() % 8));
    try {
      for (const TensorEntry& entry : parse(file).entries)
        EXPECT_LE(entry.bytes.data() + entry.bytes.size(), std::as_bytes(std::span(file)).data() + file.size());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::checkpoint);
      ++refused;
    }
  }
  EXPECT_GT(refused, 400);
}

TEST(SafetensorsFile, ReadsTheGoldenReference) {
  const std::string folder = std::string(SW_TEST_DATA) + "/golden/mixtral/";
  SafetensorsFile first = SafetensorsFile::open(folder + "reference.safetensors");
  const SafetensorsFile file = std::move(first);
  const auto shapes = nlohmann::json::parse(read_text_file(folder + "reference.json"));
  const TensorEntry* logits = file.find("logits");
  ASSERT_NE(logits, nullptr);
  EXPECT_EQ(logits->shape, (std::vector<int64_t>{2, 12, 128}));
  std::vector<float> values(static_cast<size_t>(logits->numel()));
  to_float32(*logits, values.data());
  for (const float value : values) EXPECT_TRUE(std::isfinite(value));
  const TensorEntry* ids = file.find("input_ids");
  ASSERT_NE(ids, nullptr);
  EXPECT_EQ(ids->dtype, DType::i64);
  expect_error(ErrorKind::unsupported, {"input_ids", "I64", "expected F32"}, [&] { to_float32(*ids, values.data()); });
  EXPECT_EQ(file.find("nothing"), nullptr);
}

TEST(SafetensorsFile, NamesTheFile) {
  const TempDir dir;
  expect_error(ErrorKind::io, {"missing.safetensors"}, [&] { (void)SafetensorsFile::open(dir / "missing.safetensors"); });
  write_file_atomic(dir / "empty.safetensors", "");
  expect_error(ErrorKind::checkpoint, {"empty.safetensors", "too short"},
               [&] { (void)SafetensorsFile::open(dir / "empty.safetensors"); });
}

}  // namespace
}  // namespace switchyard
