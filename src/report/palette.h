// Colours of experts. The first eight stay apart under every common kind of colour blindness; the table goes on to 64 by
// adding, each time, the colour farthest from all before it. Beyond that the colours repeat, and the page's numbers,
// highlighting and tooltips tell the experts apart.
//
// Derivation: distance of two colours = least OKLab distance over normal sight and simulated protanopia, deuteranopia
// and tritanopia (Machado, Oliveira and Fernandes 2009, DOI 10.1109/TVCG.2009.113, severity 1). The first eight come
// from a search over OKLCH lightness 0.46 to 0.82 and chroma 0.10 to 0.18; tests/report/palette_test.cpp holds the
// table to its distances.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace switchyard::report {

inline constexpr size_t kNumExpertColours = 64;

// 0xRRGGBB.
[[nodiscard]] uint32_t expert_colour(size_t expert) noexcept;

// CSS custom properties "--e0: 38 104 213; ..." for experts 0 .. num_experts-1, at most 64.
[[nodiscard]] std::string expert_colour_css(size_t num_experts);

// CSS colour of layer `index` of `count`: from teal (first) over blue to purple (last), legible on light and dark.
[[nodiscard]] std::string depth_colour(size_t index, size_t count);

}  // namespace switchyard::report
