// Whole published vocabularies, opt-in: docs/tokenizers.md says where they are looked for.
#include "base/files.h"
#include "io/tokenizer/tokenizer.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdlib>

namespace switchyard::real_vocabularies {
namespace {

namespace fs = std::filesystem;

TEST(RealVocabularies, GiveTheRecordedIds) {
  const char* folder = std::getenv("SWITCHYARD_TOKENIZERS");
  if (folder == nullptr) GTEST_SKIP() << "SWITCHYARD_TOKENIZERS is not set: whole vocabularies are not part of the repository";
  int compared = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!fs::exists(entry.path() / "expected.json") || !find_tokenizer_file(entry.path())) continue;
    SCOPED_TRACE(entry.path().string());
    const auto tokenizer = load_tokenizer(entry.path());
    for (const auto& test : nlohmann::json::parse(read_text_file(entry.path() / "expected.json"))) {
      const auto& text = test.at("text").get_ref<const std::string&>();
      EXPECT_EQ(tokenizer->encode(text, /*add_template=*/true), test.at("ids").get<std::vector<int32_t>>()) << text;
      ++compared;
    }
  }
  EXPECT_GT(compared, 0) << folder << " holds no NAME/tokenizer.json with NAME/expected.json";
}

}  // namespace
}  // namespace switchyard::real_vocabularies
