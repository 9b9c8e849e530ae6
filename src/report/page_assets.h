// What every page carries: its style, its colours and its script. No file of the page is ever fetched from elsewhere.
#pragma once

#include <string>
#include <string_view>

namespace switchyard::report {

// Rules for charts (svg_*.cpp). Colours are custom properties: --ink, --grid, --s0 ... --s7 and others.
[[nodiscard]] std::string chart_css();

// Everything for a page: colours for light, dark and print, layout, and chart_css().
[[nodiscard]] std::string page_css();

// Tooltips and the choice of a layer. Pages are complete without it. When it ran through, <html> has data-script="done"
// and the page's height in data-height; an error leaves its message in data-script-error (tools/render_report.sh looks).
[[nodiscard]] std::string_view page_script();

// Replaces var(--name) by the light colour for every colour of the page, for pictures outside of it.
[[nodiscard]] std::string light_colours(std::string text);

inline constexpr int kNumSeriesColours = 8;

}  // namespace switchyard::report
