#include "io/quant/block_format.h"

#include "io/quant/block_codecs.h"
#include "switchyard/error.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <limits>

namespace switchyard::io {
namespace {

constexpr double kAny = std::numeric_limits<float>::max();
constexpr double kHalf = 65504;  // the largest float16

constexpr std::array<BlockFormat, 32> kFormats{{
    {GgmlType::f32, "F32", 1, 4, decode_f32, encode_f32, kAny},
    {GgmlType::f16, "F16", 1, 2, decode_f16, encode_f16, kHalf},
    {GgmlType::q4_0, "Q4_0", 32, 18, decode_q4_0, nullptr, 0},
    {GgmlType::q4_1, "Q4_1", 32, 20, decode_q4_1, nullptr, 0},
    {GgmlType::q5_0, "Q5_0", 32, 22, decode_q5_0, nullptr, 0},
    {GgmlType::q5_1, "Q5_1", 32, 24, decode_q5_1, nullptr, 0},
    {GgmlType::q8_0, "Q8_0", 32, 34, decode_q8_0, encode_q8_0, kHalf * 127},
    {GgmlType::q8_1, "Q8_1", 32, 36, nullptr, nullptr, 0},
    {GgmlType::q2_k, "Q2_K", kSuperBlock, 84, decode_q2_k, nullptr, 0},
    {GgmlType::q3_k, "Q3_K", kSuperBlock, 110, decode_q3_k, nullptr, 0},
    {GgmlType::q4_k, "Q4_K", kSuperBlock, 144, decode_q4_k, encode_q4_k, kHalf * 60},
    {GgmlType::q5_k, "Q5_K", kSuperBlock, 176, decode_q5_k, nullptr, 0},
    {GgmlType::q6_k, "Q6_K", kSuperBlock, 210, decode_q6_k, encode_q6_k, kHalf * 31 * 127},
    {GgmlType::q8_k, "Q8_K", kSuperBlock, 292, nullptr, nullptr, 0},
    {GgmlType::iq2_xxs, "IQ2_XXS", kSuperBlock, 66, decode_iq2_xxs, nullptr, 0},
    {GgmlType::iq2_xs, "IQ2_XS", kSuperBlock, 74, nullptr, nullptr, 0},
    {GgmlType::iq3_xxs, "IQ3_XXS", kSuperBlock, 98, nullptr, nullptr, 0},
    {GgmlType::iq1_s, "IQ1_S", kSuperBlock, 50, nullptr, nullptr, 0},
    {GgmlType::iq4_nl, "IQ4_NL", 32, 18, nullptr, nullptr, 0},
    {GgmlType::iq3_s, "IQ3_S", kSuperBlock, 110, nullptr, nullptr, 0},
    {GgmlType::iq2_s, "IQ2_S", kSuperBlock, 82, nullptr, nullptr, 0},
    {GgmlType::iq4_xs, "IQ4_XS", kSuperBlock, 136, nullptr, nullptr, 0},
    {GgmlType::i8, "I8", 1, 1, nullptr, nullptr, 0},
    {GgmlType::i16, "I16", 1, 2, nullptr, nullptr, 0},
    {GgmlType::i32, "I32", 1, 4, nullptr, nullptr, 0},
    {GgmlType::i64, "I64", 1, 8, nullptr, nullptr, 0},
    {GgmlType::f64, "F64", 1, 8, decode_f64, nullptr, 0},
    {GgmlType::iq1_m, "IQ1_M", kSuperBlock, 56, nullptr, nullptr, 0},
    {GgmlType::bf16, "BF16", 1, 2, decode_bf16, encode_bf16, 0x1.FEp127},
    {GgmlType::tq1_0, "TQ1_0", kSuperBlock, 54, nullptr, nullptr, 0},
    {GgmlType::tq2_0, "TQ2_0", kSuperBlock, 66, nullptr, nullptr, 0},
    {GgmlType::mxfp4, "MXFP4", 32, 17, decode_mxfp4, encode_mxfp4, kAny},
}};

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::toupper(x) == std::toupper(y); });
}

}  // namespace

const BlockFormat* find_block_format(uint32_t type) noexcept {
  for (const BlockFormat& format : kFormats)
    if (static_cast<uint32_t>(format.type) == type) return &format;
  return nullptr;
}

const BlockFormat& format_of(GgmlType type) noexcept { return *find_block_format(static_cast<uint32_t>(type)); }

const BlockFormat* find_block_format(std::string_view name) noexcept {
  for (const BlockFormat& format : kFormats)
    if (same_name(format.name, name)) return &format;
  return nullptr;
}

void decode_blocks(const BlockFormat& format, std::span<const std::byte> blocks, float* out) {
  if (!format.decode) fail(ErrorKind::unsupported, "values of format {} cannot be read here", format.name);
  format.decode(blocks.data(), static_cast<int64_t>(blocks.size()) / format.bytes, out);
}

void encode_blocks(const BlockFormat& format, std::span<const float> values, std::byte* out, const std::string& where) {
  if (!format.encode) fail(ErrorKind::unsupported, "format {} cannot be written; expected one of {}", format.name, encodable_formats());
  const auto count = static_cast<int64_t>(values.size());
  if (count % format.values != 0)
    fail(ErrorKind::internal, "{}: {} values are no whole number of {} blocks of {}", where, count, format.name, format.values);
  const auto largest = static_cast<float>(format.largest);
  bool fits = true;
  for (const float value : values) fits &= std::abs(value) <= largest;  // false for NaN, too
  if (!fits) {
    const auto bad = std::find_if(values.begin(), values.end(), [largest](float value) { return !(std::abs(value) <= largest); });
    fail(ErrorKind::numeric, "{}: element {} is {}; {} holds finite values up to {:g}", where, bad - values.begin(), *bad, format.name, largest);
  }
  format.encode(values.data(), count / format.values, out);
}

std::string encodable_formats() {
  std::string names;
  for (const BlockFormat& format : kFormats)
    if (format.encode) names += fmt::format("{}{}", names.empty() ? "" : ", ", format.name);
  return names;
}

}  // namespace switchyard::io
