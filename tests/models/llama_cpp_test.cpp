// Our GGUF files in llama.cpp, when tools/llama_cpp/install.sh has brought it: greedy ids equal those that the Hugging Face library
// recorded for the same weights.
#include "base/files.h"
#include "io/tokenizer/byte_alphabet.h"
#include "models/convert.h"
#include "models/golden.h"
#include "test_files.h"

#include <cstdio>
#include <sstream>

namespace switchyard::testing {
namespace {
namespace llama_cpp {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

// llama.cpp opens no model without a vocabulary; the golden folders have none. Its tokens do not matter: prompts are ids.
void write_tokenizer(const fs::path& folder, int64_t vocab_size) {
  json vocab = json::object();
  const auto add = [&](int byte) {
    const std::string token = io::bytes_to_alphabet(std::string(1, static_cast<char>(byte)));
    if (static_cast<int64_t>(vocab.size()) < vocab_size && !vocab.contains(token)) vocab[token] = vocab.size();
  };
  add('\n');
  for (int byte = 32; byte < 127; ++byte) add(byte);
  for (int byte = 128; byte < 256; ++byte) add(byte);
  const json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const json model = {{"type", "BPE"}, {"byte_fallback", false}, {"vocab", vocab}, {"merges", json::array()}};
  write_file_atomic(folder / "tokenizer.json", json{{"version", "1.0"}, {"added_tokens", json::array()}, {"normalizer", nullptr}, {"pre_tokenizer", bytes},
                                                    {"post_processor", nullptr}, {"decoder", bytes}, {"model", model}}.dump());
}

std::string joined(const std::vector<int64_t>& ids, char between) {
  std::string out;
  for (const int64_t id : ids) out += (out.empty() ? "" : std::string(1, between)) + std::to_string(id);
  return out;
}

std::vector<int64_t> ids_of(const torch::Tensor& t) {
  const auto flat = t.flatten().contiguous();
  return {flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel()};
}

std::string output_of(const std::string& command) {
  std::string out;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return out;
  for (char part[256]; fgets(part, sizeof part, pipe);) out += part;
  pclose(pipe);
  return out;
}

TEST(LlamaCpp, ContinuesTextsAsTheReferenceDoes) {
  const fs::path folder = fs::path(SW_SOURCE_DIR) / "runs/llama.cpp";
  if (!fs::exists(folder / "node_modules/node-llama-cpp")) GTEST_SKIP() << folder << " is not there: tools/llama_cpp/install.sh brings it";
  for (const char* name : {"llama", "mixtral", "qwen2", "qwen2_moe", "olmoe", "dbrx", "deepseek_v2", "deepseek_v3", "granitemoe", "jamba"}) {
    const TempDir dir;
    fs::copy(golden_folder(name), dir / "model");
    write_tokenizer(dir / "model", load_spec(dir / "model").vocab_size);
    plan_conversion(dir / "model", dir / "m.gguf", {}).write({});
    const Golden reference(name);
    const auto prompt = ids_of(reference["prompt_ids"]), all = ids_of(reference["generated_ids"]);
    const std::vector<int64_t> want(all.begin() + static_cast<std::ptrdiff_t>(prompt.size()), all.end());
    const std::string found = output_of("node '" SW_SOURCE_DIR "/tools/llama_cpp/generate.mjs' '" + folder.string() + "' '" + (dir / "m.gguf").string() + "' " +
                                        joined(prompt, ',') + " " + std::to_string(want.size()));
    EXPECT_EQ(found, joined(want, ' ') + "\n") << name;
  }
}

}  // namespace llama_cpp
}  // namespace
}  // namespace switchyard::testing
