// Reader against a file that the ggml library wrote and against files made here byte by byte; writer against the reader.
#include "expect_error.h"
#include "io/gguf/gguf_write.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <cstring>

namespace switchyard::io {
namespace {
namespace gguf_container {

using testing::expect_error;
using testing::TempDir;

template <class Item>
std::string raw(Item item) {
  return std::string(reinterpret_cast<const char*>(&item), sizeof item);
}
std::string text(std::string_view s) { return raw(uint64_t{s.size()}) + std::string(s); }

// A whole file: header fields, metadata, descriptions, data.
struct Parts {
  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t tensors = 1, keys = 1;
  std::string metadata = text("answer") + raw(uint32_t{4}) + raw(uint32_t{42});
  std::string name = "w";
  std::vector<uint64_t> sizes{3, 2};
  uint32_t type = 0;
  uint64_t offset = 0;
  std::string more;  // further descriptions
  std::string data = std::string(24, '\1');

  [[nodiscard]] std::string file() const {
    std::string out = magic + raw(version) + raw(tensors) + raw(keys) + metadata + text(name) + raw(static_cast<uint32_t>(sizes.size()));
    for (const uint64_t size : sizes) out += raw(size);
    out += raw(type) + raw(offset) + more;
    out.resize((out.size() + 31) / 32 * 32);
    return out + data;
  }
};

GgufHeader parse(const std::string& file) { return parse_gguf(std::as_bytes(std::span(file)), "f.gguf"); }
void expect_refused(const Parts& parts, std::initializer_list<std::string_view> words, ErrorKind kind = ErrorKind::checkpoint) {
  const std::string file = parts.file();
  expect_error(kind, words, [&] { (void)parse(file); });
}

TEST(Gguf, ReadsAFileOfTheGgmlLibrary) {
  const auto file = GgufFile::open(SW_TEST_DATA "/gguf/sample.gguf");
  const auto want = nlohmann::json::parse(R"({"general.architecture": "test", "a.u8": 200, "a.i8": -5, "a.u16": 60000, "a.i16": -300, "a.u32": 4000000000,
    "a.i32": -70000, "a.f32": 1e-5, "a.bool": true, "a.u64": 1099511627776, "a.i64": -1099511627776, "a.f64": 0.1, "a.strings": ["one", "", "ä"],
    "a.floats": [0.5, -1.0]})");
  EXPECT_EQ(file.metadata().size(), want.size());
  for (const auto& [key, value] : want.items()) {
    const GgufValue* found = find(file.metadata(), key);
    ASSERT_NE(found, nullptr) << key;
    EXPECT_EQ(to_json(*found), value) << key;
  }
  EXPECT_EQ(file.header().alignment, 32);
  const GgufTensor &matrix = *file.find("matrix"), &blocks = *file.find("blocks"), &halves = *file.find("halves");
  EXPECT_EQ(matrix.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(halves.shape, (std::vector<int64_t>{3, 1, 2}));
  EXPECT_EQ(blocks.format->name, "Q8_0");
  float values[64];
  decode_blocks(*matrix.format, matrix.bytes, values);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(values[i], static_cast<float>(i) + 0.5F);
  decode_blocks(*halves.format, halves.bytes, values);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(values[i], static_cast<float>(i) * 0.25F);
  decode_blocks(*blocks.format, blocks.bytes, values);
  for (int i = 0; i < 64; ++i) EXPECT_NEAR(values[i], i - 32, 32.0 / 127 * 0.51) << i;
}

TEST(Gguf, WrittenFilesAreReadBackAndHaveEqualBytes) {
  const TempDir dir;
  const GgufMetadata metadata = {{"general.architecture", gguf_string("x")}, {"n", gguf_u32(7)}, {"eps", gguf_f32(1e-6)}, {"flag", gguf_bool(false)},
                                 {"list", gguf_strings({"a", "b c"})}, {"none", GgufValue{GgufKind::array, GgufValue::Array{}, GgufKind::f32}}};
  const std::vector<float> values{1, 2, 3};
  const auto write = [&](Sink& sink) { sink.write(std::as_bytes(std::span(values))); };
  const std::vector<GgufTensorSource> tensors = {
      {"b", GgmlType::f32, {1, 3}, write}, {"a", GgmlType::f32, {3}, write}, {"empty", GgmlType::f16, {0, 4}, [](Sink&) {}}};
  write_gguf(dir / "1.gguf", metadata, tensors);
  write_gguf(dir / "2.gguf", metadata, tensors);
  EXPECT_EQ(read_text_file(dir / "1.gguf"), read_text_file(dir / "2.gguf"));
  EXPECT_TRUE(is_gguf(dir / "1.gguf"));
  EXPECT_FALSE(is_gguf(dir.path()));
  const auto file = GgufFile::open(dir / "1.gguf");
  EXPECT_EQ(file.metadata(), metadata);
  ASSERT_EQ(file.header().tensors.size(), 3U);
  EXPECT_EQ(file.header().tensors[0].shape, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(std::memcmp(file.find("a")->bytes.data(), values.data(), 12), 0);
  EXPECT_EQ(file.find("a")->bytes.data() - file.find("b")->bytes.data(), 32);
  EXPECT_TRUE(file.find("empty")->bytes.empty());
}

TEST(Gguf, AFailedWriteKeepsTheOldFile) {
  const TempDir dir;
  write_file_atomic(dir / "m.gguf", "old");
  const std::vector<GgufTensorSource> wrong = {{"w", GgmlType::f32, {2}, [](Sink& sink) { sink.write(std::string_view("1234")); }}};
  expect_error(ErrorKind::internal, {"'w' wrote 4 bytes", "8"}, [&] { write_gguf(dir / "m.gguf", {}, wrong); });
  EXPECT_EQ(read_text_file(dir / "m.gguf"), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(Gguf, ReadsVersionTwo) {
  Parts parts;
  parts.version = 2;
  const std::string file = parts.file();
  const GgufHeader header = parse(file);
  EXPECT_EQ(header.version, 2U);
  EXPECT_EQ(to_json(*find(header.metadata, "answer")), 42);
  EXPECT_EQ(header.tensors.at(0).shape, (std::vector<int64_t>{2, 3}));
}

TEST(Gguf, RefusesWhatIsNotGguf) {
  Parts parts;
  parts.magic = "GGML";
  expect_refused(parts, {"f.gguf", "'GGUF'"});
  parts = {};
  parts.version = 1;
  expect_refused(parts, {"version 1"}, ErrorKind::unsupported);
  parts.version = 0x03000000;
  expect_refused(parts, {"big-endian"}, ErrorKind::unsupported);
}

TEST(Gguf, EveryCutIsNoticed) {
  const std::string file = Parts().file();
  ASSERT_EQ(parse(file).tensors.size(), 1U);
  for (size_t length = 0; length < file.size(); ++length) {
    const std::string cut = file.substr(0, length);
    expect_error(ErrorKind::checkpoint, {"f.gguf"}, [&] { (void)parse(cut); });
  }
}

TEST(Gguf, CountsOffsetsAndSizesAreChecked) {
  Parts parts;
  parts.tensors = uint64_t{1} << 60;
  expect_refused(parts, {"tensor count"});
  parts = {};
  parts.keys = UINT64_MAX;
  expect_refused(parts, {"metadata count"});
  parts = {};
  parts.metadata = text("k") + raw(uint32_t{9}) + raw(uint32_t{0}) + raw(uint64_t{1} << 62);
  expect_refused(parts, {"'k'", "damaged"});
  parts.metadata = text("k") + raw(uint32_t{8}) + raw(UINT64_MAX);
  expect_refused(parts, {"'k'"});
  parts.metadata = text("k") + raw(uint32_t{13});
  expect_refused(parts, {"value type 13"});
  parts.metadata = text("k") + raw(uint32_t{7}) + "\2";
  expect_refused(parts, {"bool 2"});
  parts.metadata = text("general.alignment") + raw(uint32_t{4}) + raw(uint32_t{12});
  expect_refused(parts, {"general.alignment = 12"});
  parts.metadata = text("k") + raw(uint32_t{4}) + raw(uint32_t{1}) + text("k") + raw(uint32_t{4}) + raw(uint32_t{1});
  parts.keys = 2;
  expect_refused(parts, {"'k'", "twice"});
  parts = {};
  parts.metadata = text("deep");
  for (int i = 0; i < 20; ++i) parts.metadata += raw(uint32_t{9}) + (i ? raw(uint64_t{1}) : std::string());
  expect_refused(parts, {"nested deeper"});
  parts = {};
  parts.sizes = {uint64_t{1} << 40, uint64_t{1} << 40};
  expect_refused(parts, {"'w'", "too large"});
  parts.sizes = {UINT64_MAX, 1};
  expect_refused(parts, {"'w'", "size"});
  parts.sizes = {1, 1, 1, 1, 1};
  expect_refused(parts, {"5 dimensions"});
  parts = {};
  parts.type = 8;
  expect_refused(parts, {"rows of 3", "Q8_0", "32"});
  parts.type = 4;
  expect_refused(parts, {"type 4"});
  parts = {};
  parts.offset = 8;
  expect_refused(parts, {"multiple of 32"});
  parts.offset = 32;
  expect_refused(parts, {"truncated"});
  parts.offset = UINT64_MAX - 31;
  expect_refused(parts, {"truncated"});
}

TEST(Gguf, TensorsMustNotOverlapOrShareAName) {
  Parts parts;
  parts.tensors = 2;
  parts.more = text("v") + raw(uint32_t{1}) + raw(uint64_t{2}) + raw(uint32_t{0}) + raw(uint64_t{0});
  expect_refused(parts, {"'w'", "'v'", "overlap"});
  parts.more = text("w") + raw(uint32_t{1}) + raw(uint64_t{0}) + raw(uint32_t{0}) + raw(uint64_t{0});
  expect_refused(parts, {"'w'", "twice"});
}

}  // namespace gguf_container
}  // namespace
}  // namespace switchyard::io
