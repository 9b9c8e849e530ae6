#include "report/page.h"

#include <fmt/format.h>

#include "report/page_assets.h"
#include "report/text.h"

namespace switchyard::report {

std::string html_document(const std::string& title, const std::string& head_css, const std::string& body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<meta name=\"color-scheme\" content=\"light dark\"/>\n<link rel=\"icon\" href=\"data:,\"/>\n"
      "<title>{}</title>\n<style>{}{}</style>\n</head>\n<body>\n{}\n<script>{}</script>\n</body>\n</html>\n",
      escape(title), page_css(), head_css, body, page_script());
}

std::string section_html(const Section& s) {
  return fmt::format("<section id=\"{}\">\n<h2>{}</h2>\n{}{}\n</section>\n", s.id, escape(s.title),
                     s.lead.empty() ? "" : fmt::format("<p class=\"lead\">{}</p>\n", escape(s.lead)), s.body);
}

std::string navigation(const std::vector<Section>& sections) {
  std::string out = "<nav aria-label=\"Sections\"><ul>";
  for (const Section& s : sections) out += fmt::format("<li><a href=\"#{}\">{}</a></li>", s.id, escape(s.title));
  return out + "</ul></nav>\n";
}

std::string card(const std::string& title, const std::string& about, const std::string& body) {
  std::string out = "<div class=\"card\">";
  if (!title.empty()) out += fmt::format("<h3>{}</h3>", escape(title));
  if (!about.empty()) out += fmt::format("<p class=\"about\">{}</p>", escape(about));
  return out + body + "</div>\n";
}

bool rows_of_four(size_t count) {
  const auto gaps = [&](size_t columns) { return (columns - count % columns) % columns; };
  return gaps(4) < gaps(3);
}

std::string card_grid(const std::vector<std::string>& cards) {
  std::string out = rows_of_four(cards.size()) ? "<div class=\"grid4\">\n" : "<div class=\"grid3\">\n";
  for (const std::string& c : cards) out += c;
  return out + "</div>\n";
}

std::string missing(const std::string& what) { return fmt::format("<p class=\"missing\">{}</p>\n", escape(what)); }

std::string legend(const std::vector<LegendItem>& items) {
  std::string out = "<ul class=\"legend\">";
  for (const LegendItem& item : items)
    out += fmt::format("<li><i class=\"{}\" style=\"--c:{}\"></i>{}</li>", item.form, item.colour, escape(item.label));
  return out + "</ul>";
}

std::string table(const std::vector<std::string>& columns, const std::vector<std::vector<std::string>>& rows, bool last_is_sum) {
  const auto number = [&](size_t c) { return c < columns.size() && !columns[c].empty() && columns[c][0] == '#'; };
  std::string out = "<div class=\"scroll\"><table><thead><tr>";
  for (size_t c = 0; c < columns.size(); ++c)
    out += fmt::format("<th{}>{}</th>", number(c) ? " class=\"n\"" : "", escape(columns[c].substr(number(c) ? 1 : 0)));
  out += "</tr></thead><tbody>";
  for (size_t r = 0; r < rows.size(); ++r) {
    out += last_is_sum && r + 1 == rows.size() ? "<tr class=\"sum\">" : "<tr>";
    for (size_t c = 0; c < rows[r].size(); ++c) out += fmt::format("<td{}>{}</td>", number(c) ? " class=\"n\"" : "", rows[r][c]);
    out += "</tr>";
  }
  return out + "</tbody></table></div>\n";
}

std::string fact_table(const std::vector<std::pair<std::string, std::string>>& facts) {
  std::string out = "<table class=\"facts\"><tbody>";
  for (const auto& [name, value] : facts) out += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(value));
  return out + "</tbody></table>\n";
}

std::string tiles_html(const std::vector<Tile>& tiles) {
  std::string out = "<div class=\"tiles\">";
  for (const Tile& t : tiles)
    out += fmt::format("<div class=\"tile\"><div class=\"label\">{}</div><div class=\"value\">{}{}</div><div class=\"extra\">{}</div></div>",
                       escape(t.label), escape(t.value), t.unit.empty() || t.value == kNoValue ? "" : fmt::format(" <small>{}</small>", escape(t.unit)), escape(t.extra));
  return out + "</div>\n";
}

}  // namespace switchyard::report
