// Byte-level BPE of English text, one core: MB per second of processor time with every splitter, against the same tokenizer whose words are cut
// by Oniguruma. Vocabularies are learnt from the text; the files named in SWITCHYARD_BENCH_TOKENIZERS (tokenizer.json or
// .tiktoken, with ':' between) are measured as well.
#include "base/files.h"
#include "harness.h"
#include "io/tokenizer/components.h"
#include "io/tokenizer/pipeline_tokenizer.h"
#include "io/tokenizer/tokenizer.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <sstream>

namespace switchyard {
namespace {

using bench::Candidate;

constexpr size_t kLearnBytes = 1 << 20;
constexpr int64_t kVocabSize = 8192;

// The same tokenizer with each known expression in a group, so that Oniguruma runs it. Empty when it has none.
std::unique_ptr<Tokenizer> by_oniguruma(const Tokenizer& tokenizer) {
  nlohmann::json file = nlohmann::json::parse(tokenizer.to_json().dump());
  bool changed = false;
  const std::function<void(nlohmann::json&)> visit = [&](nlohmann::json& step) {
    if (step.is_object() && step.value("type", "") == "ByteLevel" && step.value("use_regex", true)) {
      step["use_regex"] = false;
      const std::string gpt2(io::known_expressions()[0].pattern);
      const nlohmann::json split = {{"type", "Split"}, {"pattern", {{"Regex", "(?:" + gpt2 + ")"}}}, {"behavior", "Isolated"}};
      step = {{"type", "Sequence"}, {"pretokenizers", {split, step}}};
      changed = true;
    } else if (step.is_object() && step.contains("pattern") && step["pattern"].contains("Regex")) {
      step["pattern"]["Regex"] = "(?:" + step["pattern"]["Regex"].get<std::string>() + ")";
      changed = true;
    } else if (step.is_object() && step.contains("pretokenizers")) {
      for (auto& inner : step["pretokenizers"]) visit(inner);
    }
  };
  visit(file["pre_tokenizer"]);
  return changed ? parse_tokenizer(file.dump(), "by Oniguruma") : nullptr;
}

// Processor time of this thread: what others do on the machine must not count.
double processor_us() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

// Both ways give the same ids, and the text comes back.
bool is_correct(const Tokenizer& tokenizer, const Tokenizer& oracle, const std::string& text) {
  const auto ids = tokenizer.encode(text);
  return oracle.encode(text) == ids && tokenizer.decode(ids, false) == text;
}

bool measure(const std::string& title, const Tokenizer& tokenizer, const std::string& text, const bench::Options& options) {
  if (title.find(options.only) == title.npos) return true;
  const auto oracle = by_oniguruma(tokenizer);
  if (oracle == nullptr) {
    fmt::print(stderr, "{}: not byte-level, or without an expression: nothing to hold it against, not measured\n", title);
    return true;
  }
  if (!is_correct(tokenizer, *oracle, text)) {
    fmt::print(stderr, "{}: the ids are not those of Oniguruma, or the text does not come back\n", title);
    return false;
  }
  const std::vector<Candidate> candidates{{"Oniguruma", [&] { (void)oracle->encode(text); }}, {"by hand", [&] { (void)tokenizer.encode(text); }}};
  const double tokens = static_cast<double>(tokenizer.encode(text).size());
  std::vector<std::vector<double>> us(candidates.size());
  for (int round = -1; round < options.reps; ++round)  // in turn, after one round of warm-up
    for (size_t i = 0; i < candidates.size(); ++i) {
      const double start = processor_us();
      candidates[i].run();
      if (round >= 0) us[i].push_back(processor_us() - start);
    }
  for (auto& samples : us) std::sort(samples.begin(), samples.end());
  const auto at = [&](size_t i, double q) { return us[i][static_cast<size_t>(q * static_cast<double>(us[i].size() - 1) + 0.5)]; };
  for (size_t i = 0; i < candidates.size(); ++i) {
    const double median_us = at(i, 0.5), spread = (at(i, 0.75) - at(i, 0.25)) / 2 / median_us, ratio = at(0, 0.5) / median_us;
    const double mb_per_s = static_cast<double>(text.size()) / median_us, bytes_per_token = static_cast<double>(text.size()) / tokens;
    if (options.json) {
      const nlohmann::ordered_json row = {{"title", title},   {"variant", candidates[i].name},      {"mb_per_s", mb_per_s},
                                          {"spread", spread}, {"bytes_per_token", bytes_per_token}, {"ratio", ratio}};
      fmt::print("{}\n", row.dump());
    } else {
      fmt::print("{:<28} {:<10} {:>8.1f} MB/s {:>5.1f} +-%  {:>5.2f} bytes/token  {:>5.2f}\n", title, candidates[i].name, mb_per_s, 100 * spread,
                 bytes_per_token, ratio);
    }
  }
  return true;
}

// The learnt vocabulary behind the splitter of a known expression.
std::unique_ptr<Tokenizer> with_split(const Tokenizer& learnt, const io::KnownExpression& known) {
  nlohmann::json file = nlohmann::json::parse(learnt.to_json().dump());
  const nlohmann::json split = {{"type", "Split"}, {"pattern", {{"Regex", known.pattern}}}, {"behavior", "Isolated"}};
  const nlohmann::json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
  return parse_tokenizer(file.dump(), std::string(known.name));
}

int run(const bench::Options& options) {
  const std::string text = read_text_file(std::string(SW_SOURCE_DIR) + "/data/english_classics.txt");
  if (!options.json) fmt::print("tokenizer   {:.1f} MB of English, one core   {}\n", static_cast<double>(text.size()) / 1e6, bench::machine_line());
  const std::string_view sample[] = {std::string_view(text).substr(0, kLearnBytes)};
  const auto learnt = train_bpe(sample, kVocabSize);
  bool all_correct = true;
  for (const char* name : {"gpt2", "llama3", "qwen2", "o200k", "deepseek words"})
    for (const auto& known : io::known_expressions())
      if (known.name == name) all_correct &= measure(fmt::format("learnt {}, {}", learnt->vocab_size(), name), *with_split(*learnt, known), text, options);
  const char* listed = std::getenv("SWITCHYARD_BENCH_TOKENIZERS");
  std::istringstream files(listed ? listed : "");
  for (std::string file; std::getline(files, file, ':');)
    all_correct &= measure(std::filesystem::path(file).parent_path().filename() / std::filesystem::path(file).filename(), *load_tokenizer(file), text, options);
  return all_correct ? 0 : 1;
}

}  // namespace
}  // namespace switchyard

int main(int argc, char** argv) { return switchyard::run(switchyard::bench::Options::parse(argc, argv)); }
