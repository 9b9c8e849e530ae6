#include "report/palette.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace switchyard::report {
namespace {

constexpr std::array<uint32_t, kNumExpertColours> kColours = {
    0x2668d5, 0xecbe24, 0xf3669a, 0x416407, 0x59d6fa, 0x931a77, 0xa28218, 0x9e8afa, 0xaee9af, 0x513d38, 0xae5364,
    0x4a29b2, 0xf29676, 0x8265a3, 0x61a2c0, 0xceb6c0, 0x9ca831, 0x84b2fd, 0x40f5ec, 0x5978fd, 0xc17468, 0x125a98,
    0x764a4d, 0x6d0f69, 0xc21b0d, 0x7c140a, 0xcae763, 0xaa6cd4, 0x64988a, 0xf970d2, 0xb2d279, 0x8841b4, 0x617981,
    0x0a7e3a, 0x5a138c, 0x94436d, 0x9abc9a, 0x723459, 0x4ac06c, 0x80dba2, 0xcf4040, 0xbfb53b, 0xf5c1cc, 0x817fb5,
    0xd080b6, 0xb98749, 0x6b6288, 0xe9ade3, 0x295935, 0xa998dd, 0x83f68a, 0xb6a4b4, 0x524a7c, 0xe3d612, 0x99709b,
    0x833794, 0x244ecc, 0x7563c0, 0x7b7dea, 0xa7976e, 0x5a358c, 0xe493f6, 0x79371e, 0x0d4c4c};

}  // namespace

uint32_t expert_colour(size_t expert) noexcept { return kColours[expert % kNumExpertColours]; }

std::string expert_colour_css(size_t num_experts) {
  std::string css;
  for (size_t e = 0; e < std::min(num_experts, kNumExpertColours); ++e) {
    const uint32_t c = kColours[e];
    css += fmt::format("--e{}:{} {} {};", e, c >> 16, (c >> 8) & 0xFF, c & 0xFF);
  }
  return css;
}

std::string depth_colour(size_t index, size_t count) {
  constexpr std::array<std::array<double, 3>, 3> kStops = {{{26, 166, 143}, {58, 124, 217}, {160, 76, 196}}};
  const double at = count > 1 ? 2.0 * static_cast<double>(index) / static_cast<double>(count - 1) : 0.0;
  const size_t from = at < 1 ? 0 : 1;
  const double t = at - static_cast<double>(from);
  const auto mix = [&](size_t i) { return static_cast<int>(kStops[from][i] + t * (kStops[from + 1][i] - kStops[from][i]) + 0.5); };
  return fmt::format("rgb({} {} {})", mix(0), mix(1), mix(2));
}

}  // namespace switchyard::report
