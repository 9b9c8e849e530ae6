// A passage of validation text, every token in the colour of its expert. The first layer is in the markup; the script
// repaints the tokens for other layers and choices from the data beside them.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "report/palette.h"
#include "report/sections.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

// Text of a token with its white space made visible where it would not be seen: line feeds keep their effect. The last
// line feed is left to the caller, who sets it behind the token's element.
std::string visible(const std::string& token) {
  std::string out;
  for (const char c : clean_utf8(token)) {
    if (c == '\n')
      out += "<span class=\"ws\">↵</span>\n";
    else if (c == '\r')
      out += "<span class=\"ws\">␍</span>";
    else if (c == '\t')
      out += "<span class=\"ws\">⇥</span>";
    else if (static_cast<unsigned char>(c) < 0x80)
      out += escape(std::string(1, c));
    else
      out += c;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

// The same on one line, for tooltips: blanks, tabs and line feeds as signs.
std::string on_one_line(const std::string& token) {
  std::string out;
  for (const char c : clean_utf8(token)) out += c == '\n' ? "↵" : c == '\r' ? "␍" : c == '\t' ? "⇥" : c == ' ' ? "␣" : std::string(1, c);
  return out;
}

std::string token_title(const Trace& trace, size_t t) {
  std::string out = on_one_line(trace.tokens[t]);
  const auto& ids = trace.routing[0].experts[t];
  const auto& weights = trace.routing[0].weights[t];
  for (size_t j = 0; j < ids.size(); ++j) {
    out += ids[j] < 0 ? "\nno expert" : fmt::format("\nexpert {}", ids[j]);
    if (j < weights.size()) out += ": " + percent(weights[j]);
  }
  return out;
}

std::string tokens_html(const Trace& trace) {
  std::string out;
  auto excerpt = trace.excerpts.begin();
  for (size_t t = 0; t < trace.tokens.size(); ++t) {
    if (excerpt != trace.excerpts.end() && excerpt->token == static_cast<int64_t>(t)) out += fmt::format("<b class=\"excerpt\">{}</b>", escape((excerpt++)->name));
    const auto& ids = trace.routing[0].experts[t];
    const int64_t top = ids.empty() ? -1 : ids[0];
    const std::string name = top < 0 ? "" : std::to_string(top);
    const std::string colour = top < 0 ? "" : fmt::format(" style=\"--e:var(--e{})\"", static_cast<size_t>(top) % kNumExpertColours);
    out += fmt::format("<span class=\"tok{}\"{} data-e=\"{}\" data-t=\"{}\" title=\"{}\">{}</span>{}", top < 0 ? " none" : "", colour, name,
                       escape(on_one_line(trace.tokens[t])), escape(token_title(trace, t)), visible(trace.tokens[t]), trace.tokens[t].empty() || trace.tokens[t].back() != '\n' ? "" : "\n");
  }
  return out;
}

std::string list_json(const std::vector<int64_t>& values) { return fmt::format("[{}]", fmt::join(values, ",")); }

std::string list_json(const std::vector<double>& values) {
  std::string out = "[";
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ",";
    out += std::isfinite(values[i]) ? fmt::format("{:.4g}", values[i]) : "null";
  }
  return out + "]";
}

std::string routing_json(const Trace& trace) {
  std::string out = "[";
  for (size_t layer = 0; layer < trace.routing.size(); ++layer) {
    if (layer > 0) out += ",";
    out += fmt::format("{{\"num_experts\":{},\"experts\":[", std::max<int64_t>(trace.layers[layer].num_experts, 0));
    for (size_t t = 0; t < trace.tokens.size(); ++t) out += (t > 0 ? "," : "") + list_json(trace.routing[layer].experts[t]);
    out += "],\"weights\":[";
    for (size_t t = 0; t < trace.tokens.size(); ++t) out += (t > 0 ? "," : "") + list_json(trace.routing[layer].weights[t]);
    out += "]}";
  }
  return out + "]";
}

std::string expert_chips(const Trace& trace) {
  std::vector<size_t> counts(static_cast<size_t>(std::max<int64_t>(trace.layers[0].num_experts, 0)), 0);
  for (const auto& ids : trace.routing[0].experts)
    if (!ids.empty() && ids[0] >= 0) ++counts[static_cast<size_t>(ids[0])];
  std::string out = "<div class=\"experts\" role=\"group\" aria-label=\"Experts: press one to highlight its tokens\">";
  for (size_t e = 0; e < counts.size(); ++e)
    out += fmt::format("<span><span class=\"chip\" style=\"--c:rgb(var(--e{}))\"></span><span>{}</span><small>{}</small></span>", e % kNumExpertColours, e,
                       percent(static_cast<double>(counts[e]) / static_cast<double>(trace.tokens.size())));
  return out + "</div>\n";
}

std::string choice_bar(const Trace& trace) {
  size_t choices = 0;
  for (const TokenRouting& layer : trace.routing)
    for (const auto& ids : layer.experts) choices = std::max(choices, ids.size());
  if (choices < 2) return "";
  std::string out = "<div class=\"choose script-only\" hidden=\"hidden\" role=\"group\" aria-label=\"Colour by choice\"><span>Colour by choice</span>";
  for (size_t j = 0; j < std::min<size_t>(choices, 8); ++j)
    out += fmt::format("<button type=\"button\" data-choose-choice=\"{0}\" aria-pressed=\"{1}\">{2}</button>", j, j == 0 ? "true" : "false", j + 1);
  return out + "</div>";
}

}  // namespace

std::string passage_html(const RunFiles& run) {
  const Trace& trace = *run.trace;
  const std::string title = "A passage of validation text";
  if (trace.tokens.empty() || trace.routing.empty()) return card(title, "", missing("No passage in trace.json."));
  const std::string about = "Each token in the colour of its expert. Press an expert to see its tokens alone; point at a token for all its choices and weights.";
  return card(title, about,
              expert_chips(trace) + "<div class=\"controls\">" + choice_bar(trace) +
                  "<label class=\"switch\"><input type=\"checkbox\" id=\"numbers\"/>expert numbers in the text</label></div>\n<div class=\"passage\">" +
                  tokens_html(trace) + "</div>\n<script type=\"application/json\" id=\"passage-data\">" + escape_script_json(routing_json(trace)) + "</script>");
}

}  // namespace switchyard::report
