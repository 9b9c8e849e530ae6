// The input is a safetensors file.
#include "fuzz.h"
#include "io/safetensors.h"

#include <vector>

using namespace switchyard;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span file(reinterpret_cast<const std::byte*>(data), size);
  SafetensorsHeader header;
  if (!fuzz::accepts({ErrorKind::checkpoint}, [&] { header = parse_safetensors_header(file, "fuzz.safetensors"); })) return 0;

  size_t total = 0;
  for (const TensorEntry& entry : header.entries) {
    int64_t numel = 1;
    for (const int64_t length : entry.shape) numel *= length;
    fuzz::promise(numel == entry.numel(), "the shape gives the number of items");
    fuzz::promise(entry.bytes.empty() || (entry.bytes.data() >= file.data() &&
                                          entry.bytes.data() + entry.bytes.size() <= file.data() + file.size()),
                  "tensors lie inside the file");
    total += entry.bytes.size();
    std::vector<float> values(static_cast<size_t>(numel));
    fuzz::accepts({ErrorKind::unsupported}, [&] { to_float32(entry, values.data()); });
  }
  fuzz::promise(total <= size, "tensors do not overlap");
  return 0;
}
