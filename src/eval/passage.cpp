#include "eval/passage.h"

#include "eval/expert_shares.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kShownMixtures = 2;  // experts shown for routings that weigh all of them

// One excerpt: tokens [begin, end) of the stream.
struct Excerpt {
  int64_t begin = 0, end = 0;
  std::string name;
};

std::vector<Excerpt> choose_excerpts(const data::TokenFile& tokens, const TraceOptions& options) {
  const data::TokenStream& text = tokens.validation();
  std::set<int64_t> domains;
  for (const data::TokenDocument& document : text.documents()) domains.insert(document.domain);
  const int64_t share = std::max<int64_t>(1, options.passage_tokens / std::max<int64_t>(1, static_cast<int64_t>(domains.size())));
  std::vector<Excerpt> out;
  for (size_t d = 0; d < text.documents().size(); ++d) {
    const data::TokenDocument& document = text.documents()[d];
    if (domains.erase(document.domain) == 0) continue;
    const int64_t end = text.document_end(static_cast<int64_t>(d));
    const std::string &title = tokens.names()[static_cast<size_t>(document.name)], &domain = tokens.names()[static_cast<size_t>(document.domain)];
    out.push_back({document.first_token, std::min({end, document.first_token + share, document.first_token + options.seq_len}),
                   title.empty() ? domain : title});
  }
  return out;
}

Json rounded_row(const float* values, int64_t n) {
  Json row = Json::array();
  for (int64_t i = 0; i < n; ++i) row.push_back(std::round(static_cast<double>(values[i]) * 1e4) / 1e4);
  return row;
}

// Appends the experts of every token, best first.
void append_routing(const MoETrace& trace, int64_t num_tokens, Json& layer) {
  torch::Tensor ids, weights;
  if (const auto* choice = std::get_if<TokenChoice>(&trace.routing.choice)) {
    ids = choice->expert_ids.contiguous();
    weights = choice->weights.detach().to(torch::kFloat32).contiguous();
  } else {
    const auto all = expert_weights(trace.routing, num_tokens, trace.stats.num_experts);
    std::tie(weights, ids) = all.topk(std::min(kShownMixtures, all.size(1)), 1);
    ids = ids.masked_fill(weights <= 0, -1);
  }
  for (int64_t t = 0; t < num_tokens; ++t) {
    const int64_t k = ids.size(1);
    const int64_t* id = ids.data_ptr<int64_t>() + t * k;
    layer["experts"].push_back(std::vector<int64_t>(id, id + k));
    layer["weights"].push_back(rounded_row(weights.data_ptr<float>() + t * k, k));
  }
}

}  // namespace

Json trace_passage(LanguageModel& model, const Tokenizer& tokenizer, const data::TokenFile& tokens, const TraceOptions& options) {
  Json texts = Json::array(), excerpts = Json::array();
  std::map<int64_t, Json> layers;
  for (const Excerpt& excerpt : choose_excerpts(tokens, options)) {
    if (excerpt.begin == excerpt.end) continue;
    excerpts.push_back({{"token", texts.size()}, {"name", excerpt.name}});
    std::vector<int64_t> ids;
    for (int64_t i = excerpt.begin; i < excerpt.end; ++i) {
      const int32_t id = tokens.validation().token(i);
      ids.push_back(id);
      texts.push_back(tokenizer.decode(std::span(&id, 1)));
    }
    ModelTrace trace;
    const torch::Tensor row = torch::tensor(ids, torch::kInt64).unsqueeze(0);
    const auto tags = torch::full_like(row, tokens.validation().domain_of(tokens.validation().document_of(excerpt.begin)));
    (void)model.forward({.input_ids = row, .positions = {}, .segments = {}, .tags = tags}, {.trace = &trace});
    for (const auto& [layer, moe] : trace.moe) append_routing(moe, static_cast<int64_t>(ids.size()), layers[layer]);
  }
  Json routing = Json::array();
  for (auto& [layer, rows] : layers) routing.push_back(std::move(rows));
  return {{"tokens", texts}, {"excerpts", excerpts}, {"routing", routing}};
}

}  // namespace switchyard
