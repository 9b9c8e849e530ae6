#include "report/sample_run.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "report/comparison.h"
#include "report/report.h"

namespace switchyard::report {
namespace {

using Json = nlohmann::json;

// SplitMix64, and sums of uniform numbers for something close to a normal distribution.
class Noise {
 public:
  explicit Noise(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  double uniform() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1.0p-53;
  }
  double normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }

 private:
  uint64_t state_;
};

std::vector<double> softmax(std::vector<double> v) {
  const double top = *std::max_element(v.begin(), v.end());
  double sum = 0;
  for (double& x : v) sum += x = std::exp(x - top);
  for (double& x : v) x /= sum;
  return v;
}

double loss_at(const SampleRun& s, double step) {
  const double t = step / static_cast<double>(s.steps);
  return s.final_loss + 1.05 * std::exp(-9 * t) + 2.4 * std::exp(-70 * t) + 0.22 * (1 - t) * std::exp(-1.2 * t);
}

class Writer {
 public:
  Writer(const SampleRun& s, std::filesystem::path dir) : s_(s), dir_(std::move(dir)), noise_(s.seed) {
    std::filesystem::create_directories(dir_);
    for (int64_t l = 0; l < layers(); ++l) {
      std::vector<double> bias;
      for (int64_t e = 0; e < s_.num_experts; ++e) bias.push_back(noise_.normal());
      bias_.push_back(bias);
    }
  }

  void metrics() {
    std::ofstream out(dir_ / "metrics.jsonl");
    for (int64_t step = 2; step <= s_.steps; step += 2) {
      out << train(step).dump() << '\n';
      if (step % 50 == 0 || step == s_.steps) out << eval(step).dump() << '\n';
      if (step == s_.steps) out << Json{{"kind", "event"}, {"step", step}, {"what", "best"}, {"seconds", seconds(step)}}.dump() << '\n';
    }
  }

  void info() {
    const double experts = s_.dense ? 1 : static_cast<double>(s_.num_experts), active = s_.dense ? 1 : static_cast<double>(s_.top_k);
    const double expert = s_.dense ? 786432 : 393216, banks = s_.dense ? 4 : static_cast<double>(s_.moe_layers);
    const double attention = 1048576, embedding = 524288, norms = 2304, router = s_.dense ? 0 : 2048 * banks;
    Json table = Json::array();
    const auto part = [&](const char* name, double all, double used) { table.push_back({{"part", name}, {"params", all}, {"active", used}}); };
    part("token embedding (tied)", embedding, embedding);
    part("attention", attention, attention);
    part(s_.dense ? "feed-forward" : "experts", banks * expert * experts, banks * expert * active);
    if (!s_.dense) part("routers", router, router);
    part("norms", norms, norms);
    double total = 0, used = 0;
    for (const auto& p : table) {
      total += p["params"].get<double>();
      used += p["active"].get<double>();
    }
    const Json json = {{"name", s_.name}, {"recipe", "recipes/demo/" + std::string(s_.dense ? "dense.toml" : "sparse.toml")}, {"started", "2025-05-17T14:02:11Z"},
                       {"command", "switchyard train recipes/demo/" + std::string(s_.dense ? "dense.toml" : "sparse.toml") + fmt::format(" --set seed={}", s_.seed)},
                       {"seed", s_.seed}, {"threads", 2}, {"machine", "2 cores, AVX-512, 8 GiB"},
                       {"model", {{"total", total}, {"active", used}, {"flops_per_token", 2 * used}, {"table", table}}},
                       {"dataset", {{"name", "english_classics"}, {"vocabulary", 2048}, {"train tokens", 598214}, {"validation tokens", 66490}, {"sequence length", 256}}},
                       {"final", {{"loss", loss_at(s_, static_cast<double>(s_.steps))}, {"step", s_.steps}}}};
    std::ofstream(dir_ / "run.json") << json.dump(2);
  }

  void trace(const std::filesystem::path& corpus) {
    Json json;
    json["layers"] = Json::array();
    json["categories"] = {{"names", {"drama", "society", "fantasy", "verse", "scripture"}}, {"share", Json::array()}};
    json["passage"] = {{"tokens", tokens(corpus)}, {"routing", Json::array()}, {"excerpts", {{{"token", 0}, {"name", "drama"}}, {{"token", 200}, {"name", "society"}}}}};
    json["similarity"] = Json::array();
    for (int64_t l = 0; l < layers(); ++l) {
      json["layers"].push_back({{"layer", 2 * l + 1}, {"num_experts", s_.num_experts}, {"top_k", s_.top_k}});
      json["categories"]["share"].push_back(categories(l));
      json["passage"]["routing"].push_back(routing(l, json["passage"]["tokens"]));
      json["similarity"].push_back(similarity());
    }
    std::ofstream(dir_ / "trace.json") << json.dump();
  }

  void sample() {
    std::ofstream(dir_ / "sample.txt") << "Ham. I prythee tell me, wherefore art thou come,\nAnd what the King hath spoken in his Chamber?\n\n"
                                          "  Hor. My Lord, I know not; but the Night was dark,\nAnd all the Watch were silent at the gate.\n";
  }

  void recipe() { std::ofstream(dir_ / "recipe.toml") << "name = \"" << s_.name << "\"\n\n[train]\nsteps = " << s_.steps << '\n'; }

 private:
  [[nodiscard]] int64_t layers() const { return s_.dense ? 0 : s_.moe_layers; }
  [[nodiscard]] double seconds(int64_t step) const { return s_.seconds_per_step * static_cast<double>(step) * (1 + 0.01 * static_cast<double>(s_.seed)); }

  Json train(int64_t step) {
    const double t = static_cast<double>(step) / static_cast<double>(s_.steps), tokens = 4096.0 * static_cast<double>(step);
    const double warm = std::min(1.0, t / 0.05), lr = 3e-3 * warm * (0.1 + 0.9 * 0.5 * (1 + std::cos(3.14159265 * t)));
    Json j = {{"kind", "train"}, {"step", step}, {"loss", loss_at(s_, static_cast<double>(step)) - 0.03 + 0.05 * noise_.normal()}, {"lr", lr},
              {"grad_norm", 0.45 + 2 * std::exp(-30 * t) + 0.06 * std::fabs(noise_.normal())}, {"tokens", tokens},
              {"tokens_per_s", 4096 / s_.seconds_per_step * (1 + 0.03 * noise_.normal())}, {"seconds", seconds(step)}};
    const double floor = std::sqrt((static_cast<double>(s_.num_experts) - 1) / (4096.0 * static_cast<double>(s_.top_k)));
    for (int64_t l = 0; l < layers(); ++l) {
      std::vector<double> score;
      for (const double b : bias_[static_cast<size_t>(l)]) score.push_back(b * (0.12 + 0.9 * std::exp(-12 * t) * (1 - std::exp(-60 * t))) + 0.03 * noise_.normal());
      const std::vector<double> load = softmax(score);
      double square = 0;
      for (const double v : load) square += std::pow(v * static_cast<double>(s_.num_experts) - 1, 2);
      const double cv = std::sqrt(square / static_cast<double>(s_.num_experts));
      j["load"].push_back(load);
      j["load_cv"].push_back(cv);
      j["load_cv_floor"].push_back(floor);
      j["dropped"].push_back(std::max(0.0, 0.09 * (cv - 0.1)));
      j["entropy"].push_back(std::log(static_cast<double>(s_.num_experts)) * (0.62 + 0.3 * std::exp(-8 * t)) - 0.05 * static_cast<double>(l));
    }
    if (layers() > 0) j["aux"] = {{"load_balance", {{"raw", 1.01 + 0.3 * std::exp(-15 * t)}, {"weighted", 0.0101}}}, {"router_z", {{"raw", 4.1 + std::exp(-5 * t)}, {"weighted", 0.0041}}}};
    return j;
  }

  Json eval(int64_t step) {
    const double loss = loss_at(s_, static_cast<double>(step)) + 0.02 + 0.008 * noise_.normal();
    return {{"kind", "eval"}, {"step", step}, {"loss", loss}, {"loss_se", 0.012}, {"perplexity", std::exp(loss)}, {"bits_per_byte", loss / 0.9312 / 1.0}, {"seconds", seconds(step)}};
  }

  Json categories(int64_t layer) {
    Json rows = Json::array();
    for (int c = 0; c < 5; ++c) {
      std::vector<double> score;
      for (int64_t e = 0; e < s_.num_experts; ++e) score.push_back(noise_.normal() * (0.25 + 0.2 * static_cast<double>(layer)));
      rows.push_back(softmax(score));
    }
    return rows;
  }

  // Words with their leading blank, and line feeds, as a tokenizer of small vocabulary would cut them.
  static Json tokens(const std::filesystem::path& corpus) {
    std::ifstream in(corpus, std::ios::binary);
    std::string text(1500, '\0');
    in.seekg(2600);
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    Json out = Json::array();
    std::string token;
    for (const char c : text) {
      const bool letter = std::isalpha(static_cast<unsigned char>(c)) != 0;
      if (!token.empty() && (!letter || token.back() == '\n' || std::ispunct(static_cast<unsigned char>(token.back())) || token.size() > 6)) {
        out.push_back(token);
        token.clear();
      }
      token += c;
    }
    return out;
  }

  Json routing(int64_t layer, const Json& tokens) {
    Json experts = Json::array(), weights = Json::array();
    for (const auto& token : tokens) {
      const auto hash = static_cast<double>(std::hash<std::string>{}(token.get<std::string>()) % 1000);
      std::vector<double> score;
      for (int64_t e = 0; e < s_.num_experts; ++e)
        score.push_back(2.2 * std::sin(hash * 0.7 + 1.9 * static_cast<double>(e) + static_cast<double>(layer)) + 0.5 * noise_.normal());
      const std::vector<double> p = softmax(score);
      std::vector<int64_t> order;
      for (int64_t e = 0; e < s_.num_experts; ++e) order.push_back(e);
      std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)]; });
      order.resize(static_cast<size_t>(s_.top_k));
      double sum = 0;
      for (const int64_t e : order) sum += p[static_cast<size_t>(e)];
      std::vector<double> w;
      for (const int64_t e : order) w.push_back(p[static_cast<size_t>(e)] / sum);
      experts.push_back(order);
      weights.push_back(w);
    }
    return {{"experts", experts}, {"weights", weights}};
  }

  Json similarity() {
    const auto n = static_cast<size_t>(s_.num_experts);
    std::vector<std::vector<double>> cosine(n, std::vector<double>(n, 1.0));
    for (size_t r = 0; r < n; ++r)
      for (size_t c = 0; c < r; ++c) cosine[r][c] = cosine[c][r] = 0.08 + 0.06 * noise_.normal();
    return cosine;
  }

  SampleRun s_;
  std::filesystem::path dir_;
  Noise noise_;
  std::vector<std::vector<double>> bias_;
};

}  // namespace

void write_sample_run(const std::filesystem::path& dir, const SampleRun& sample, const std::filesystem::path& corpus) {
  Writer writer(sample, dir);
  writer.metrics();
  writer.info();
  if (!sample.dense) writer.trace(corpus);
  writer.sample();
  writer.recipe();
}

// Writes pages to look at: SW_BINARY_DIR/report/*.html.
TEST(SampleRun, PagesOfRealisticRunsAreWritten) {
  const std::filesystem::path out = std::filesystem::path(SW_BINARY_DIR) / "report", corpus = std::filesystem::path(SW_SOURCE_DIR) / "data/english_classics.txt";
  write_sample_run(out / "demo", {}, corpus);
  write_report((out / "demo").string(), (out / "report.html").string());
  SampleRun large;
  large.name = "large";
  large.moe_layers = 12;
  large.num_experts = 64;
  large.top_k = 6;
  write_sample_run(out / "large", large, corpus);
  write_report((out / "large").string(), (out / "large.html").string());
  std::filesystem::create_directories(out / "empty");
  write_report((out / "empty").string(), (out / "empty.html").string());
  std::vector<std::string> dirs;
  for (const bool dense : {true, false})
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      SampleRun s;
      s.dense = dense;
      s.name = dense ? "dense" : "sparse, 8 experts";
      s.seed = seed;
      s.final_loss = (dense ? 2.24 : 2.06) + 0.01 * static_cast<double>(seed);
      s.seconds_per_step = dense ? 0.26 : 0.31;
      dirs.push_back((out / fmt::format("{}-{}", dense ? "dense" : "sparse", seed)).string());
      write_sample_run(dirs.back(), s, corpus);
    }
  write_comparison(dirs, (out / "comparison.html").string());
  write_comparison_svg(dirs, CompareOver::seconds, "Validation loss against time", (out / "comparison.svg").string());
  EXPECT_GT(std::filesystem::file_size(out / "report.html"), 50000u);
  EXPECT_LT(std::filesystem::file_size(out / "large.html"), 4u << 20);
}

}  // namespace switchyard::report
