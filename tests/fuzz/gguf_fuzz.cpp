// The input is a GGUF file: header, metadata and the values of its tensors; then what the metadata say of a model, and where the values
// of its tensors would stand.
#include "fuzz.h"
#include "io/gguf/gguf_config.h"

#include <algorithm>
#include <vector>

using namespace switchyard;

namespace {

void read_config(const io::GgufHeader& header, io::LayoutSizes& sizes) {
  io::TensorFacts facts;
  facts.has = [&](std::string_view name) {
    return std::any_of(header.tensors.begin(), header.tensors.end(), [&](const io::GgufTensor& tensor) { return tensor.name == name; });
  };
  const io::GgufFamily& family = io::family_of(header.metadata, "fuzz.gguf");
  const io::KeyReader keys(family.architecture, header.metadata, facts, "fuzz.gguf");
  sizes = io::layout_sizes(keys);
  (void)io::layer_count(keys);
  (void)io::config_of(header.metadata, family, facts, "fuzz.gguf");
}

// Every arrangement that fits a shape maps the first and the last value into the other tensor.
void check_layouts(const io::GgufTensor& tensor, const io::LayoutSizes& sizes) {
  for (int how = 0; how <= static_cast<int>(io::Arrange::negative_exp); ++how) {
    const auto layout = io::layout_of_gguf(static_cast<io::Arrange>(how), tensor.shape, sizes);
    if (!layout || tensor.numel() == 0) continue;
    int64_t values = 1;
    for (const int64_t size : layout->hf_shape) values *= size;
    const int64_t rows = layout->rows(), last = (layout->columns() - 1) * layout->stride();
    fuzz::promise(rows * layout->columns() == tensor.numel(), "a layout has the values of its tensor");
    fuzz::promise(layout->start_of(0) >= 0 && layout->start_of(rows - 1) + last < values, "a layout stays inside the other tensor");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span file(reinterpret_cast<const std::byte*>(data), size);
  io::GgufHeader header;
  if (!fuzz::accepts({ErrorKind::checkpoint, ErrorKind::unsupported}, [&] { header = io::parse_gguf(file, "fuzz.gguf"); })) return 0;

  for (const auto& [key, value] : header.metadata) (void)io::to_json(value, 8);
  io::LayoutSizes sizes;
  fuzz::accepts({ErrorKind::checkpoint, ErrorKind::unsupported}, [&] { read_config(header, sizes); });
  size_t total = 0;
  for (const io::GgufTensor& tensor : header.tensors) {
    int64_t numel = 1;
    for (const int64_t length : tensor.shape) numel *= length;
    fuzz::promise(numel == tensor.numel(), "the shape gives the number of values");
    fuzz::promise(tensor.bytes.empty() || (tensor.bytes.data() >= file.data() && tensor.bytes.data() + tensor.bytes.size() <= file.data() + file.size()),
                  "tensors lie inside the file");
    total += tensor.bytes.size();
    check_layouts(tensor, sizes);
    std::vector<float> values(static_cast<size_t>(numel));
    fuzz::accepts({ErrorKind::unsupported}, [&] { io::decode_blocks(*tensor.format, tensor.bytes, values.data()); });
  }
  fuzz::promise(total <= size, "tensors do not overlap");
  return 0;
}
