// Sequences of (x, y) for charts: smoothing, thinning, reading between points, mean and spread of several. y may be NaN
// (not recorded); x ascends.
#pragma once

#include <cstddef>
#include <vector>

namespace switchyard::report {

struct Point {
  double x = 0, y = 0;
};
using Series = std::vector<Point>;

// The points whose y is finite.
[[nodiscard]] Series finite(const Series& s);

// Mean over 2*half_width + 1 points around each point; a straight line stays a straight line. Towards the start, where
// losses fall steeply, the window shrinks on both sides; towards the end it reaches back instead, and the value is that of
// the line of least squares through it, which is steadier. Takes finite points.
[[nodiscard]] Series smooth(const Series& s, size_t half_width);

// At most about `limit` points: the lowest and the highest of each run of neighbours, so that spikes stay visible.
[[nodiscard]] Series thin(const Series& s, size_t limit);

// Straight line between neighbours; NaN outside the first and last point. Takes finite points.
[[nodiscard]] double value_at(const Series& s, double x);

// The first x at which the line through the points comes down to `level`; NaN if it never does. Takes finite points.
[[nodiscard]] double first_x_at_or_below(const Series& s, double level);

struct SpreadPoint {
  double x = 0, mean = 0, low = 0, high = 0;
};

// Mean, least and greatest of several series at every x that any of them has, over the range that all of them cover.
[[nodiscard]] std::vector<SpreadPoint> spread_of(const std::vector<Series>& members);

// The middle value (mean of the two middle ones for an even count), NaN values left out; NaN when none is finite.
[[nodiscard]] double median(std::vector<double> values);

}  // namespace switchyard::report
