// The input is a GGUF file: header, metadata and the values of its tensors.
#include "fuzz.h"
#include "io/gguf/gguf.h"

#include <vector>

using namespace switchyard;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span file(reinterpret_cast<const std::byte*>(data), size);
  io::GgufHeader header;
  if (!fuzz::accepts({ErrorKind::checkpoint, ErrorKind::unsupported}, [&] { header = io::parse_gguf(file, "fuzz.gguf"); })) return 0;

  for (const auto& [key, value] : header.metadata) (void)io::to_json(value, 8);
  size_t total = 0;
  for (const io::GgufTensor& tensor : header.tensors) {
    int64_t numel = 1;
    for (const int64_t length : tensor.shape) numel *= length;
    fuzz::promise(numel == tensor.numel(), "the shape gives the number of values");
    fuzz::promise(tensor.bytes.empty() || (tensor.bytes.data() >= file.data() && tensor.bytes.data() + tensor.bytes.size() <= file.data() + file.size()),
                  "tensors lie inside the file");
    total += tensor.bytes.size();
    std::vector<float> values(static_cast<size_t>(numel));
    fuzz::accepts({ErrorKind::unsupported}, [&] { io::decode_blocks(*tensor.format, tensor.bytes, values.data()); });
  }
  fuzz::promise(total <= size, "tensors do not overlap");
  return 0;
}
