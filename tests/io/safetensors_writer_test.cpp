#include "io/safetensors_writer.h"

#include "expect_error.h"
#include "io/safetensors_set.h"
#include "test_files.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstring>
#include <random>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempDir;

struct Owned {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

std::vector<Owned> random_tensors(int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<Owned> tensors;
  for (int i = 0; i < count; ++i) {
    Owned tensor{fmt::format("t{}.\"ü\\{}", random() % 1000, i), static_cast<DType>(random() % 12), {}, {}};
    int64_t size = item_size(tensor.dtype);
    for (uint32_t rank = random() % 4; rank > 0; --rank) {
      tensor.shape.push_back(random() % 6);
      size *= tensor.shape.back();
    }
    tensor.bytes.resize(static_cast<size_t>(size));
    for (std::byte& byte : tensor.bytes) byte = static_cast<std::byte>(random());
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::vector<TensorSource> sources(const std::vector<Owned>& tensors) {
  std::vector<TensorSource> result;
  for (const Owned& tensor : tensors) result.push_back(tensor_source(tensor.name, tensor.dtype, tensor.shape, tensor.bytes));
  return result;
}

void expect_equal(const SafetensorsSet& set, const std::vector<Owned>& tensors) {
  EXPECT_EQ(set.entries().size(), tensors.size());
  for (const Owned& tensor : tensors) {
    const TensorEntry& entry = set.at(tensor.name);
    EXPECT_EQ(entry.dtype, tensor.dtype);
    EXPECT_EQ(entry.shape, tensor.shape);
    EXPECT_TRUE(std::equal(entry.bytes.begin(), entry.bytes.end(), tensor.bytes.begin(), tensor.bytes.end()));
  }
}

TEST(WriteSafetensors, ReadsBackWhatWasWritten) {
  const TempDir dir;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const auto tensors = random_tensors(static_cast<int>(seed), seed);
    write_safetensors(dir / "a.safetensors", sources(tensors), {{"key", "välue\n"}});
    const auto set = SafetensorsSet::open(dir / "a.safetensors");
    expect_equal(set, tensors);
    EXPECT_EQ(set.metadata().at("key"), "välue\n");
  }
}

TEST(WriteSafetensors, AlignsEveryTensor) {
  const TempDir dir;
  write_safetensors(dir / "a.safetensors", sources(random_tensors(40, 5)));
  const SafetensorsFile file = SafetensorsFile::open(dir / "a.safetensors");
  for (const TensorEntry& entry : file.entries())
    EXPECT_EQ(reinterpret_cast<uintptr_t>(entry.bytes.data()) % static_cast<uintptr_t>(item_size(entry.dtype)), 0U);
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST(WriteSafetensors, ReproducesTheGoldenFile) {
  const TempDir dir;
  const auto golden = SafetensorsFile::open(std::string(SW_TEST_DATA) + "/golden/mixtral/model.safetensors");
  std::vector<TensorSource> tensors;
  for (const TensorEntry& entry : golden.entries())
    tensors.push_back(tensor_source(entry.name, entry.dtype, entry.shape, entry.bytes));
  std::reverse(tensors.begin(), tensors.end());
  write_safetensors(dir / "a.safetensors", tensors, golden.metadata());
  const auto written = SafetensorsFile::open(dir / "a.safetensors");
  ASSERT_EQ(written.entries().size(), golden.entries().size());
  for (size_t i = 0; i < golden.entries().size(); ++i) {  // the reference writer sorts alike
    const auto& want = golden.entries()[i].bytes;
    const auto& got = written.entries()[i].bytes;
    EXPECT_EQ(written.entries()[i].name, golden.entries()[i].name);
    EXPECT_TRUE(std::equal(got.begin(), got.end(), want.begin(), want.end()));
  }
}

TEST(WriteSafetensors, RefusesOurOwnMistakesAndKeepsTheOldFile) {
  const TempDir dir;
  const fs::path path = dir / "a.safetensors";
  write_file_atomic(path, "old");
  const auto write = [&](std::vector<TensorSource> tensors) { write_safetensors(path, tensors); };
  const std::vector<std::byte> four(4);
  const auto good = tensor_source("w", DType::f32, {1}, four);
  expect_error(ErrorKind::internal, {"'w'", "twice"}, [&] { write({good, good}); });
  expect_error(ErrorKind::internal, {"__metadata__"}, [&] { write({tensor_source("__metadata__", DType::f32, {1}, four)}); });
  expect_error(ErrorKind::internal, {"'w'", "4 bytes", "says 8"}, [&] { write({tensor_source("w", DType::f64, {1}, four)}); });
  expect_error(ErrorKind::internal, {"'w'", "[-1]"}, [&] { write({tensor_source("w", DType::f32, {-1}, four)}); });
  expect_error(ErrorKind::internal, {"'w'", "too large"},
               [&] { write({tensor_source("w", DType::f32, {1LL << 40, 1LL << 40}, four)}); });
  EXPECT_EQ(read_text_file(path), "old");
  expect_error(ErrorKind::io, {"no-folder"}, [&] { write_safetensors(dir / "no-folder/a.safetensors", {good}); });
  expect_error(ErrorKind::usage, {"max_shard_bytes = 0"}, [&] { write_sharded(dir.path(), {good}, 0); });
}

TEST(WriteSharded, EveryShardKeepsTheLimit) {
  const TempDir dir;
  const auto tensors = random_tensors(60, 9);
  for (const int64_t limit : {1, 100, 1000, 1 << 30}) {
    const auto files = write_sharded(dir.path(), sources(tensors), limit);
    const auto set = SafetensorsSet::open(dir.path());
    expect_equal(set, tensors);
    for (const std::string& name : files) {
      if (name.find(".json") != std::string::npos) continue;
      const auto shard = SafetensorsSet::open(dir / name);
      EXPECT_TRUE(shard.total_bytes() <= limit || shard.entries().size() <= 1) << name;
    }
    size_t left = 0;
    for (const auto& entry : fs::directory_iterator(dir.path())) left += entry.is_regular_file();
    EXPECT_EQ(left, files.size()) << "model files of an earlier write stay behind";
    if (limit == 1 << 30) {
      EXPECT_EQ(files, std::vector<std::string>{"model.safetensors"});
    } else {
      const auto index = nlohmann::json::parse(read_text_file(dir / "model.safetensors.index.json"));
      EXPECT_EQ(index["metadata"]["total_size"], set.total_bytes());
      EXPECT_EQ(files.front(), fmt::format("model-00001-of-{:05}.safetensors", files.size() - 1));
    }
  }
}

TEST(WriteSharded, OfNothingIsAnEmptyFile) {
  const TempDir dir;
  write_sharded(dir.path(), {}, 1000);
  EXPECT_TRUE(SafetensorsSet::open(dir.path()).entries().empty());
}

}  // namespace
}  // namespace switchyard
