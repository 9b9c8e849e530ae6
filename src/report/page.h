// Pieces of a page: the document around it, sections, cards, legends and tables.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace switchyard::report {

// A whole HTML document. `head_css` comes after the page's own style.
[[nodiscard]] std::string html_document(const std::string& title, const std::string& head_css, const std::string& body);

struct Section {
  std::string id, title, lead, body;  // title and lead are plain text; body is HTML
};
[[nodiscard]] std::string section_html(const Section& section);
[[nodiscard]] std::string navigation(const std::vector<Section>& sections);

// A titled box. `title` and `about` are plain text, `body` is HTML; empty parts are left out.
[[nodiscard]] std::string card(const std::string& title, const std::string& about, const std::string& body);

// Cards side by side, in rows of three or four: whichever leaves fewer gaps.
[[nodiscard]] bool rows_of_four(size_t count);
[[nodiscard]] std::string card_grid(const std::vector<std::string>& cards);

// A box that says what is not there and where it would come from. Plain text.
[[nodiscard]] std::string missing(const std::string& what);

struct LegendItem {
  std::string colour;      // CSS text
  std::string label;       // plain text
  std::string form = "dash";  // dash, "dash faint", or empty for a square
};
[[nodiscard]] std::string legend(const std::vector<LegendItem>& items);

// A table; cells are HTML. Columns named with a leading '#' hold numbers and are set to the right.
[[nodiscard]] std::string table(const std::vector<std::string>& columns, const std::vector<std::vector<std::string>>& rows, bool last_is_sum = false);

// Names and values; both plain text.
[[nodiscard]] std::string fact_table(const std::vector<std::pair<std::string, std::string>>& facts);

struct Tile {
  std::string label, value, unit, extra;  // plain text
};
[[nodiscard]] std::string tiles_html(const std::vector<Tile>& tiles);

}  // namespace switchyard::report
