// trace.json: sizes and expert ids are checked against each other, so that pages can index without further thought.
#include <algorithm>

#include "report/json_fields.h"
#include "report/run_files.h"
#include "switchyard/error.h"

namespace switchyard::report {
namespace {

constexpr int64_t kMaxExperts = 1 << 16;  // beyond any published system; guards sizes of the page

void expect_size(const std::string& where, size_t found, size_t expected, const char* of) {
  if (found != expected) fail(ErrorKind::checkpoint, "{}: found {} entries, expected {} ({})", where, found, expected, of);
}

std::vector<TraceLayer> read_layers(const JsonAt& at) {
  expect_array(at);
  std::vector<TraceLayer> layers;
  for (size_t i = 0; i < at.value.size(); ++i) {
    const JsonAt row = element(at, i);
    layers.push_back({count_field(row, "layer"), count_field(row, "num_experts"), count_field(row, "top_k")});
    if (layers.back().num_experts > kMaxExperts)
      fail(ErrorKind::checkpoint, "{}.num_experts: found {}, expected at most {}", row.where, layers.back().num_experts, kMaxExperts);
  }
  return layers;
}

// [layer][rows][E]; `rows` is C for categories and E for similarity (given as nullopt).
std::vector<std::vector<std::vector<double>>> read_tables(const JsonAt& at, Trace& trace, std::optional<size_t> rows) {
  expect_array(at);
  std::vector<std::vector<std::vector<double>>> tables;
  if (at.value.is_null() || at.value.empty()) return tables;
  if (trace.layers.empty()) trace.layers.resize(at.value.size());
  expect_size(at.where, at.value.size(), trace.layers.size(), "MoE layers");
  for (size_t i = 0; i < at.value.size(); ++i) {
    const JsonAt layer = element(at, i);
    tables.push_back(number_rows(layer));
    int64_t& experts = trace.layers[i].num_experts;
    if (experts < 0 && !tables.back().empty()) experts = static_cast<int64_t>(tables.back()[0].size());
    expect_size(layer.where, tables.back().size(), rows ? *rows : static_cast<size_t>(std::max<int64_t>(experts, 0)),
                rows ? "categories.names" : "num_experts");
    for (size_t r = 0; r < tables.back().size(); ++r)
      expect_size(layer.where + "[" + std::to_string(r) + "]", tables.back()[r].size(), static_cast<size_t>(experts), "num_experts");
  }
  return tables;
}

void read_categories(const JsonAt& at, Trace& trace) {
  const JsonAt names = child(at, "names");
  expect_array(names);
  for (size_t i = 0; i < names.value.size(); ++i) {
    const JsonAt name = element(names, i);
    if (!name.value.is_string()) fail(ErrorKind::checkpoint, "{}: found {}, expected text", name.where, name.value.type_name());
    trace.category_names.push_back(name.value.get<std::string>());
  }
  trace.category_share = read_tables(child(at, "share"), trace, trace.category_names.size());
}

std::vector<int64_t> expert_ids(const JsonAt& at, int64_t num_experts) {
  expect_array(at);
  std::vector<int64_t> ids;
  for (size_t i = 0; i < at.value.size(); ++i) {
    const Json& v = at.value[i];
    const double id = v.is_number_integer() ? v.get<double>() : -2;
    const int64_t last = (num_experts < 0 ? kMaxExperts : num_experts) - 1;
    if (id < -1 || id > static_cast<double>(last))
      fail(ErrorKind::checkpoint, "{}[{}]: found {}, expected an expert id from -1 (none) to {}", at.where, i,
           v.dump(-1, ' ', false, Json::error_handler_t::replace), last);
    ids.push_back(v.get<int64_t>());
  }
  return ids;
}

TokenRouting read_routing(const JsonAt& at, const TraceLayer& layer, size_t num_tokens) {
  TokenRouting routing;
  const JsonAt experts = child(at, "experts");
  expect_array(experts);
  expect_size(experts.where, experts.value.size(), num_tokens, "passage.tokens");
  for (size_t t = 0; t < num_tokens; ++t) routing.experts.push_back(expert_ids(element(experts, t), layer.num_experts));
  const JsonAt weights = child(at, "weights");
  routing.weights = number_rows(weights);
  if (weights.value.is_null()) routing.weights.resize(num_tokens);
  expect_size(weights.where, routing.weights.size(), num_tokens, "passage.tokens");
  for (size_t t = 0; t < num_tokens; ++t)
    if (!weights.value.is_null())
      expect_size(weights.where + "[" + std::to_string(t) + "]", routing.weights[t].size(), routing.experts[t].size(), "experts of the token");
  return routing;
}

void read_passage(const JsonAt& at, Trace& trace) {
  const JsonAt tokens = child(at, "tokens");
  expect_array(tokens);
  for (size_t i = 0; i < tokens.value.size(); ++i) {
    const Json& token = tokens.value[i];
    if (!token.is_string()) fail(ErrorKind::checkpoint, "{}[{}]: found {}, expected text", tokens.where, i, token.type_name());
    trace.tokens.push_back(token.get<std::string>());
  }
  const JsonAt excerpts = child(at, "excerpts");
  expect_array(excerpts);
  for (size_t i = 0; i < excerpts.value.size(); ++i) {
    const JsonAt excerpt = element(excerpts, i);
    const int64_t token = count_field(excerpt, "token"), least = trace.excerpts.empty() ? 0 : trace.excerpts.back().token + 1;
    if (token < least || token >= static_cast<int64_t>(trace.tokens.size()))
      fail(ErrorKind::checkpoint, "{}.token: found {}, expected {} to {}", excerpt.where, token, least, static_cast<int64_t>(trace.tokens.size()) - 1);
    trace.excerpts.push_back({token, text_field(excerpt, "name")});
  }
  const JsonAt routing = child(at, "routing");
  expect_array(routing);
  if (routing.value.is_null() || routing.value.empty()) return;
  if (trace.layers.empty()) trace.layers.resize(routing.value.size());
  expect_size(routing.where, routing.value.size(), trace.layers.size(), "MoE layers");
  for (size_t i = 0; i < routing.value.size(); ++i)
    trace.routing.push_back(read_routing(element(routing, i), trace.layers[i], trace.tokens.size()));
}

// Where the file does not say num_experts, the largest id seen does.
void complete_layers(Trace& trace) {
  for (size_t i = 0; i < trace.routing.size(); ++i) {
    int64_t& experts = trace.layers[i].num_experts;
    if (experts >= 0) continue;
    for (const auto& ids : trace.routing[i].experts)
      for (const int64_t id : ids) experts = std::max(experts, id + 1);
  }
}

}  // namespace

Trace parse_trace(const std::string& text, const std::string& file) {
  const Json json = parse_json(text, file);
  const JsonAt at{json, file};
  if (!json.is_object()) fail(ErrorKind::checkpoint, "{}: found {}, expected an object", file, json.type_name());
  Trace trace;
  trace.layers = read_layers(child(at, "layers"));
  read_categories(child(at, "categories"), trace);
  trace.similarity = read_tables(child(at, "similarity"), trace, std::nullopt);
  read_passage(child(at, "passage"), trace);
  complete_layers(trace);
  return trace;
}

}  // namespace switchyard::report
