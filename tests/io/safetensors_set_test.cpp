#include "io/safetensors_set.h"

#include "expect_error.h"
#include "io/safetensors_writer.h"
#include "test_files.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TempDir;

const fs::path kGolden = fs::path(SW_TEST_DATA) / "golden";

// A writable copy of the sharded golden checkpoint and its index.
class ShardedCopy {
 public:
  ShardedCopy() {
    fs::copy(kGolden / "mixtral-sharded", dir_.path());
    index_ = nlohmann::json::parse(read_text_file(index_path()));
  }
  [[nodiscard]] fs::path index_path() const { return dir_ / "model.safetensors.index.json"; }
  [[nodiscard]] nlohmann::json& weight_map() { return index_["weight_map"]; }
  void save() const { write_file_atomic(index_path(), index_.dump()); }
  void expect_bad(std::initializer_list<std::string_view> words) const {
    expect_error(ErrorKind::checkpoint, words, [&] { (void)SafetensorsSet::open(dir_.path()); });
  }
  [[nodiscard]] const TempDir& dir() const { return dir_; }

 private:
  TempDir dir_;
  nlohmann::json index_;
};

TEST(SafetensorsSet, ShardsEqualTheSingleFile) {
  const auto whole = SafetensorsSet::open(kGolden / "mixtral");
  for (const char* path : {"mixtral-sharded", "mixtral-sharded/model.safetensors.index.json"}) {
    const auto sharded = SafetensorsSet::open(kGolden / path);
    ASSERT_EQ(sharded.entries().size(), whole.entries().size());
    EXPECT_EQ(sharded.total_bytes(), whole.total_bytes());
    EXPECT_EQ(sharded.metadata().at("format"), "pt");
    for (const TensorEntry* entry : whole.entries()) {
      const TensorEntry& other = sharded.at(entry->name);
      EXPECT_EQ(other.shape, entry->shape);
      EXPECT_TRUE(std::equal(other.bytes.begin(), other.bytes.end(), entry->bytes.begin(), entry->bytes.end())) << entry->name;
    }
  }
}

TEST(SafetensorsSet, OpensOneFile) {
  const auto set = SafetensorsSet::open(kGolden / "llama" / "model.safetensors");
  EXPECT_NE(set.find("lm_head.weight"), nullptr);
  EXPECT_EQ(set.find("lm_head.wait"), nullptr);
  EXPECT_EQ(set.file_of("lm_head.weight").filename(), "model.safetensors");
  expect_error(ErrorKind::checkpoint, {"model.safetensors", "'lm_head.wait' is missing", "'lm_head.weight'"},
               [&] { (void)set.at("lm_head.wait"); });
}

TEST(SafetensorsSet, NamesAFolderWithoutTensors) {
  const TempDir dir;
  expect_error(ErrorKind::checkpoint, {dir.path().string(), "model.safetensors.index.json"},
               [&] { (void)SafetensorsSet::open(dir.path()); });
  expect_error(ErrorKind::io, {"nowhere", "No such file"}, [&] { (void)SafetensorsSet::open(dir / "nowhere"); });
}

TEST(SafetensorsSet, NamesAMissingShard) {
  const ShardedCopy copy;
  fs::remove(copy.dir() / "model-00003-of-00004.safetensors");
  copy.expect_bad({"index.json", "'model-00003-of-00004.safetensors' is missing"});
}

TEST(SafetensorsSet, NamesATensorThatItsShardLacks) {
  ShardedCopy copy;
  copy.weight_map()["extra.weight"] = "model-00002-of-00004.safetensors";
  copy.save();
  copy.expect_bad({"'extra.weight'", "'model-00002-of-00004.safetensors'", "does not hold it"});
}

TEST(SafetensorsSet, NamesATensorInAnotherShard) {
  ShardedCopy copy;
  const std::string actual = copy.weight_map()["lm_head.weight"];
  copy.weight_map()["lm_head.weight"] =
      actual == "model-00001-of-00004.safetensors" ? "model-00002-of-00004.safetensors" : "model-00001-of-00004.safetensors";
  copy.save();
  copy.expect_bad({"'lm_head.weight'", actual, "found in"});
}

TEST(SafetensorsSet, NamesATensorThatTheIndexLacks) {
  ShardedCopy copy;
  copy.weight_map().erase("lm_head.weight");
  copy.save();
  copy.expect_bad({"'lm_head.weight'", "not in the index"});
}

TEST(SafetensorsSet, NamesATensorInTwoShards) {
  ShardedCopy copy;
  fs::copy_file(copy.dir() / "model-00001-of-00004.safetensors", copy.dir() / "again.safetensors");
  copy.weight_map()["extra.weight"] = "again.safetensors";
  copy.save();
  copy.expect_bad({"also stands in", "again.safetensors", "model-00001-of-00004.safetensors"});
}

TEST(SafetensorsSet, RefusesAnIndexThatLeavesTheFolderOrIsDamaged) {
  for (const char* name : {"../model.safetensors", "/etc/passwd", "", "..", ".", "a/b.safetensors"}) {
    ShardedCopy copy;
    copy.weight_map()["lm_head.weight"] = name;
    copy.save();
    copy.expect_bad({"weight_map.lm_head.weight", "without a folder"});
  }
  const ShardedCopy copy;
  for (const auto& [text, word] : {std::pair("", "not valid JSON"), std::pair("[]", "expected an object"),
                                   std::pair("{}", "'weight_map' is missing"),
                                   std::pair(R"({"weight_map":{"a":1}})", "expected a string"),
                                   std::pair(R"({"weight_map":{"a":"x","a":"x"}})", "twice")}) {
    write_file_atomic(copy.index_path(), text);
    copy.expect_bad({"index.json", word});
  }
}

}  // namespace
}  // namespace switchyard
