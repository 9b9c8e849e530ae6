#include "io/quant/quantised_folder.h"

#include "io/quant/scaled_blocks.h"
#include "switchyard/error.h"

#include <numeric>

namespace switchyard::io {
namespace {

constexpr std::string_view kBlocks = "_blocks", kBlockScales = "_scales";

bool is_f8(const TensorEntry& entry) { return entry.dtype == DType::f8_e4m3 || entry.dtype == DType::f8_e5m2; }

bool is_mxfp4(const TensorEntry& entry) { return entry.dtype == DType::u8 && entry.name.ends_with(kBlocks); }

std::string stem(const std::string& name, std::string_view end) { return name.substr(0, name.size() - end.size()); }

const TensorEntry* scale_of(const TensorEntry& entry, const TensorStore& files) {
  for (const char* end : {"_scale_inv", "_scale"})
    if (const TensorEntry* scale = files.find(entry.name + end)) return scale;
  return nullptr;
}

// A scale is hidden when it belongs to a tensor that is presented.
bool is_scale(const TensorEntry& entry, const TensorStore& files) {
  for (const std::string_view end : {"_scale_inv", "_scale"})
    if (entry.name.ends_with(end))
      if (const TensorEntry* whole = files.find(stem(entry.name, end)); whole && is_f8(*whole)) return true;
  return entry.name.ends_with(kBlockScales) && files.find(stem(entry.name, kBlockScales) + std::string(kBlocks));
}

int64_t blocks_in(int64_t size, int64_t block) { return (size + block - 1) / block; }

TensorEntry f8_entry(const TensorEntry& codes, const TensorStore& files, int64_t block_rows, int64_t block_columns) {
  const TensorEntry* scale = scale_of(codes, files);
  if (!scale)
    fail(ErrorKind::checkpoint, "{}: tensor '{}' is {}, but '{}_scale_inv' is missing", files.path().string(), codes.name, name_of(codes.dtype), codes.name);
  if (codes.shape.size() != 2)
    fail(ErrorKind::unsupported, "{}: tensor '{}' is {} of shape {}; only matrices are read", files.path().string(), codes.name, name_of(codes.dtype),
         show_shape(codes.shape));
  Fp8Blocks m{codes.dtype, codes.shape[0], codes.shape[1], block_rows, block_columns, codes.bytes, {}};
  const int64_t scales = scale->numel();
  const bool by_row = scale->shape == std::vector<int64_t>{m.rows} || scale->shape == std::vector<int64_t>{m.rows, 1};
  const std::vector<int64_t> wanted{blocks_in(m.rows, block_rows), blocks_in(m.columns, block_columns)};
  if (by_row && scale->shape != wanted) m.block_rows = 1, m.block_columns = std::max<int64_t>(m.columns, 1);
  if (scales != 1 && !by_row && scale->shape != wanted)
    fail(ErrorKind::checkpoint, "{}: tensor '{}' has shape {}, expected one scale, one per row, or {} for blocks of {} x {}", files.path().string(),
         scale->name, show_shape(scale->shape), show_shape(wanted), block_rows, block_columns);
  TensorEntry out{codes.name, DType::f32, codes.shape, codes.bytes};
  out.stored_as = name_of(codes.dtype);
  out.decode = [m, scale](float* values) {
    std::vector<float> factors(static_cast<size_t>(scale->numel()));
    to_float32(*scale, factors.data());
    Fp8Blocks with_scales = m;
    with_scales.scales = factors;
    decode_fp8_blocks(with_scales, values);
  };
  return out;
}

// [N, R, 32 n] as it is stored -> [N, 32 n, R].
void decode_transposed(const TensorEntry& blocks, const TensorEntry& scales, float* out) {
  const auto n = static_cast<size_t>(blocks.shape[0]), rows = static_cast<size_t>(blocks.shape[1]), groups = static_cast<size_t>(blocks.shape[2]);
  const size_t columns = 32 * groups;
  std::vector<float> row(columns);
  for (size_t e = 0; e < n; ++e)
    for (size_t r = 0; r < rows; ++r) {
      const size_t first = (e * rows + r) * groups;
      decode_mxfp4_rows(blocks.bytes.subspan(16 * first, 16 * groups), scales.bytes.subspan(first, groups), row.data());
      for (size_t c = 0; c < columns; ++c) out[(e * columns + c) * rows + r] = row[c];
    }
}

TensorEntry mxfp4_entry(const TensorEntry& blocks, const TensorStore& files) {
  const std::string name = stem(blocks.name, kBlocks);
  const TensorEntry* scales = files.find(name + std::string(kBlockScales));
  if (!scales) fail(ErrorKind::checkpoint, "{}: tensor '{}' is there, but '{}{}' is missing", files.path().string(), blocks.name, name, kBlockScales);
  const bool fits = blocks.shape.size() == 4 && blocks.shape[3] == 16 && scales->dtype == DType::u8 &&
                    scales->shape == std::vector<int64_t>(blocks.shape.begin(), blocks.shape.end() - 1);
  if (!fits)
    fail(ErrorKind::checkpoint, "{}: '{}' {} and '{}' {} are no MXFP4 tensor: expected [N, R, n, 16] and [N, R, n] of U8", files.path().string(), blocks.name,
         show_shape(blocks.shape), scales->name, show_shape(scales->shape));
  TensorEntry out{name, DType::f32, {blocks.shape[0], 32 * blocks.shape[2], blocks.shape[1]}, blocks.bytes};
  out.stored_as = "MXFP4";
  out.decode = [&blocks, scales](float* values) { decode_transposed(blocks, *scales, values); };
  return out;
}

}  // namespace

bool has_quantised_tensors(const TensorStore& files) {
  for (const TensorEntry* entry : files.entries())
    if (is_f8(*entry) || is_mxfp4(*entry)) return true;
  return false;
}

std::unique_ptr<TensorStore> dequantised(std::shared_ptr<const TensorStore> files, int64_t block_rows, int64_t block_columns) {
  if (block_rows < 1 || block_columns < 1)
    fail(ErrorKind::config, "{}: blocks of {} x {}; expected at least 1 x 1", files->path().string(), block_rows, block_columns);
  auto out = std::make_unique<TensorView>(files->path(), files);
  for (const TensorEntry* entry : files->entries()) {
    if (is_scale(*entry, *files)) continue;
    const auto& file = files->file_of(entry->name);
    if (is_f8(*entry)) out->add(f8_entry(*entry, *files, block_rows, block_columns), file);
    else if (is_mxfp4(*entry)) out->add(mxfp4_entry(*entry, *files), file);
    else out->add(*entry, file);
  }
  return out;
}

}  // namespace switchyard::io
