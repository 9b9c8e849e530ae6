// Line charts as static SVG. Colours come from CSS classes and custom properties (page_style.cpp), so that one picture
// follows light, dark and print; draw_standalone() writes them out for files of their own.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/axis.h"
#include "report/series.h"

namespace switchyard::report {

struct Line {
  std::string label;           // shown in tooltips and at the end of the line; empty: neither
  std::string css;             // classes: a colour s0..s7 and a form: thick, faint, dashed
  std::string colour;          // instead of the class's colour, as CSS text
  Series points;               // NaN y breaks the line
  std::vector<double> errors;  // half heights of error bars, one per point, or empty
  bool dots = false;
};

struct Band {
  std::string css;
  std::vector<SpreadPoint> points;
};

// A dashed line across the plot: at a value (`horizontal`) or at an x.
struct Reference {
  double at = 0;
  std::string label;
  bool horizontal = true;
};

struct LineChart {
  double width = 312, height = 210;
  std::string description;  // for screen readers: what is drawn
  std::string x_label = "step", y_label;
  Unit x_unit = Unit::plain, y_unit = Unit::plain;
  bool y_from_zero = false;
  bool label_ends = false;  // names of the lines at their right ends
  int value_decimals = 3;   // of values in tooltips
  std::vector<Line> lines;
  std::vector<Band> bands;
  std::vector<Reference> references;
  std::string title, subtitle;  // inside the picture, for standalone files
};

// The <svg> element. Without any finite point: an empty frame that says "no values".
[[nodiscard]] std::string draw(const LineChart& chart);

// An SVG document for use outside a page: light background, colours written out, no custom properties.
[[nodiscard]] std::string draw_standalone(const LineChart& chart);

// "M10 20L30 40": one decimal, points with NaN start a new piece.
[[nodiscard]] std::string path_data(const Series& pixels);

// Width in pixels that text of this size is likely to take in a sans-serif font.
[[nodiscard]] double text_width(std::string_view text, double font_size);

}  // namespace switchyard::report
