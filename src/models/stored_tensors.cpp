#include "models/stored_tensors.h"

#include "core/packed_parameter.h"
#include "switchyard/error.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <set>

namespace switchyard {
namespace {

using Places = std::vector<TensorPlace>;

// Longer lists help nobody: the count is in front.
constexpr size_t kListed = 8;

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < names.size() && i < kListed; ++i) out += fmt::format("{}'{}'", i ? ", " : "", names[i]);
  if (names.size() > kListed) out += fmt::format(" and {} more", names.size() - kListed);
  return out;
}

std::map<std::string, torch::Tensor> all_tensors(const LanguageModel& model) {
  std::map<std::string, torch::Tensor> out;
  for (const auto& item : model.named_parameters()) out.emplace(item.key(), item.value());
  for (const auto& item : model.named_buffers()) out.emplace(item.key(), item.value());
  return out;
}

torch::Tensor part(const torch::Tensor& whole, const TensorPlace& place) {
  auto out = place.index < 0 ? whole : whole.select(0, place.index);
  return place.rows < 0 ? out : out.narrow(0, place.row, place.rows);
}

std::vector<int64_t> sizes(const TensorPlace& place) {
  std::vector<int64_t> out;
  for (const auto& dimension : place.shape) out.push_back(dimension.size);
  return out;
}

size_t count_found(const Places& places, const TensorStore& files) {
  size_t found = 0;
  for (const auto& place : places) found += files.find(place.stored) ? 1 : 0;
  return found;
}

// The layout of which the largest share is there.
size_t best_layout(const std::vector<Places>& layouts, const TensorStore& files) {
  size_t best = 0;
  double best_share = -1;
  for (size_t i = 0; i < layouts.size(); ++i) {
    const double share = static_cast<double>(count_found(layouts[i], files)) / static_cast<double>(layouts[i].size());
    if (share > best_share) best = i, best_share = share;
  }
  return best;
}

void check_names(const Places& places, const TensorStore& files, const Family& family, const ModelSpec& spec) {
  std::set<std::string> wanted;
  std::vector<std::string> missing, unexpected;
  for (const auto& place : places) {
    wanted.insert(place.stored);
    if (!files.find(place.stored)) missing.push_back(place.stored);
  }
  for (const TensorEntry* entry : files.entries())
    if (!wanted.count(entry->name) && !family.ignores(entry->name, spec)) unexpected.push_back(entry->name);
  if (missing.empty() && unexpected.empty()) return;
  std::string text;
  if (!missing.empty()) text += fmt::format("; {} missing: {}", missing.size(), listed(missing));
  if (!unexpected.empty()) text += fmt::format("; {} not in the model: {}", unexpected.size(), listed(unexpected));
  fail(ErrorKind::checkpoint, "{}: the tensors do not fit config.json{}", files.path().string(), text);
}

void check_shape(const TensorPlace& place, const TensorEntry& entry, const TensorStore& files) {
  const auto expected = sizes(place);
  if (entry.shape == expected) return;
  std::string keys;
  for (size_t i = 0; i < expected.size(); ++i)
    if (!place.shape[i].key.empty() && (entry.shape.size() != expected.size() || entry.shape[i] != expected[i]))
      keys += fmt::format("{}{} = {}", keys.empty() ? " (" : ", ", place.shape[i].key, expected[i]);
  if (!keys.empty()) keys += ")";
  fail(ErrorKind::checkpoint, "{}: tensor '{}' has shape {}, config.json says {}{}", files.file_of(place.stored).string(), place.stored,
       show_shape(entry.shape), show_shape(expected), keys);
}

void check_finite(const float* values, int64_t n, const TensorPlace& place, const TensorStore& files) {
  constexpr uint32_t kExponent = 0x7F800000u;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    if ((bits & kExponent) == kExponent)
      fail(ErrorKind::checkpoint, "{}: tensor '{}' has the value {} at element {}; weights must be finite", files.file_of(place.stored).string(), place.stored,
           values[i], i);
  }
}

// Rows of the first dimension lie side by side in the file.
TensorEntry rows_of(TensorEntry entry, int64_t first, int64_t count) {
  const auto row = static_cast<size_t>(item_size(entry.dtype)) * static_cast<size_t>(entry.numel() / std::max<int64_t>(1, entry.shape[0]));
  entry.bytes = entry.bytes.subspan(static_cast<size_t>(first) * row, static_cast<size_t>(count) * row);
  entry.shape[0] = count;
  return entry;
}

TensorEntry piece(const TensorPlace& place, TensorEntry entry) {
  if (place.part.index >= 0) {
    entry = rows_of(std::move(entry), place.part.index, 1);
    entry.shape.erase(entry.shape.begin());
  }
  return place.part.rows >= 0 ? rows_of(std::move(entry), place.part.row, place.part.rows) : entry;
}

// The part of a whole stored tensor, as a view.
torch::Tensor view_of(const torch::Tensor& whole, const StoredPart& part, bool columns_only = false) {
  auto out = whole;
  if (!columns_only && part.index >= 0) out = out.select(0, part.index);
  if (!columns_only && part.rows >= 0) out = out.narrow(0, part.row, part.rows);
  if (part.flat) out = out.flatten(1);
  if (part.column_step > 1) out = out.slice(-1, part.column, {}, part.column_step);
  return part.transposed ? out.transpose(-1, -2) : out;
}

// A tensor that must be decoded as a whole before its parts can be taken; the last one stays, for the next part.
struct Decoded {
  std::string name;
  torch::Tensor values;

  const torch::Tensor& of(const TensorEntry& entry) {
    if (name != entry.name) {
      values = torch::empty(entry.shape, torch::kFloat32);
      to_float32(entry, values.data_ptr<float>());
      name = entry.name;
    }
    return values;
  }
};

void read_one(const torch::Tensor& target, const TensorPlace& place, const TensorEntry& entry, const TensorStore& files, Decoded& decoded) {
  check_shape(place, entry, files);
  if (entry.decode && !place.part.whole()) {
    const auto part = view_of(decoded.of(entry), place.part);
    if (part.sizes() != target.sizes()) fail(ErrorKind::internal, "table row '{}' does not fit parameter '{}'", place.stored, place.parameter);
    target.copy_(part);
    const auto values = target.contiguous();
    return check_finite(values.data_ptr<float>(), values.numel(), place, files);
  }
  const bool direct = target.is_contiguous() && place.part.column_step == 1 && !place.part.transposed && !place.part.flat;
  const TensorEntry mine = piece(place, entry);
  if (target.scalar_type() != torch::kFloat32) {
    target.copy_(view_of(as_tensor(mine), place.part, true));  // a buffer of counts or flags
    return;
  }
  const auto read = direct ? target : torch::empty(mine.shape, torch::kFloat32);
  const auto part = direct ? target : view_of(read, place.part, true);
  if (part.sizes() != target.sizes() || read.numel() != mine.numel())
    fail(ErrorKind::internal, "table row '{}' does not fit parameter '{}'", place.stored, place.parameter);
  to_float32(mine, read.data_ptr<float>());
  check_finite(read.data_ptr<float>(), read.numel(), place, files);
  if (!direct) target.copy_(part);
}

torch::ScalarType torch_type(DType dtype, const std::string& name) {
  switch (dtype) {
    case DType::f32:
      return torch::kFloat32;
    case DType::f16:
      return torch::kFloat16;
    case DType::bf16:
      return torch::kBFloat16;
    case DType::f64:
      return torch::kFloat64;
    case DType::i64:
      return torch::kInt64;
    case DType::i32:
      return torch::kInt32;
    case DType::u8:
      return torch::kUInt8;
    case DType::boolean:
      return torch::kBool;
    default:
      fail(ErrorKind::unsupported, "tensor '{}' is stored as {}, which cannot be used here", name, name_of(dtype));
  }
}

DType stored_type(torch::ScalarType type, const std::string& name) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64, DType::i64, DType::i32, DType::u8, DType::boolean})
    if (torch_type(dtype, name) == type) return dtype;
  fail(ErrorKind::internal, "tensor '{}' has a type that cannot be stored", name);
}

// `make` is asked when the tensor is written.
TensorSource source(const std::string& name, DType dtype, std::vector<int64_t> shape, const std::function<torch::Tensor()>& make) {
  const auto type = torch_type(dtype, name);
  return {name, dtype, std::move(shape), [name, make, type](Sink& sink) {
            const auto tensor = make();
            const auto bytes = tensor.to(torch::kCPU, type).contiguous();
            if (type == torch::kFloat16 && tensor.scalar_type() != type && !bytes.isfinite().all().item<bool>())
              fail(ErrorKind::numeric, "tensor '{}' has values beyond 65504, the largest float16; store bfloat16 or float32", name);
            sink.write(std::span(static_cast<const std::byte*>(bytes.data_ptr()), bytes.nbytes()));
          }};
}

// Selection biases stay float32 in published files: they move in steps that bfloat16 cannot tell apart.
bool keeps_float32(const std::string& stored) { return stored.ends_with("e_score_correction_bias"); }

}  // namespace

void read_weights(LanguageModel& model, const Family& family, const TensorStore& files, const Filled& on_filled) {
  const torch::NoGradGuard no_grad;
  const auto layouts = family.layouts(model);
  auto places = layouts[best_layout(layouts, files)];
  check_names(places, files, family, model.spec());
  // Parts of one tensor one after the other.
  std::map<std::string, size_t> first;
  for (size_t i = 0; i < places.size(); ++i) first.emplace(places[i].stored, i);
  std::stable_sort(places.begin(), places.end(), [&](const auto& a, const auto& b) { return first.at(a.stored) < first.at(b.stored); });
  Decoded decoded;
  const auto tensors = all_tensors(model);
  std::map<std::string, int64_t> filled;
  for (const auto& place : places) {
    const auto target = part(tensors.at(place.parameter), place);
    read_one(target, place, files.at(place.stored), files, decoded);
    filled[place.parameter] += target.numel();
    if (const auto& whole = tensors.at(place.parameter); on_filled && filled[place.parameter] == whole.numel()) on_filled(whole);
  }
  std::set<std::string> state;  // buffers that no published file holds (counts of updates) stay as they are
  for (const auto& item : model.named_buffers())
    if (!filled.count(item.key())) state.insert(item.key());
  for (const auto& [name, tensor] : tensors)
    if (!state.count(name) && filled[name] != tensor.numel()) fail(ErrorKind::internal, "the family's table fills {} of {} values of '{}'", filled[name], tensor.numel(), name);
}

size_t check_tensors(const LanguageModel& model, const Family& family, const TensorStore& files) {
  const auto layouts = family.layouts(model);
  const size_t layout = best_layout(layouts, files);
  const Places& places = layouts[layout];
  check_names(places, files, family, model.spec());
  for (const auto& place : places) check_shape(place, files.at(place.stored), files);
  return layout;
}

std::vector<TensorSource> stored_weights(const LanguageModel& model, const Family& family, DType dtype, size_t layout) {
  const auto tensors = all_tensors(model);
  for (const auto& [name, tensor] : tensors)
    if (packed_form(tensor)) fail(ErrorKind::unsupported, "'{}' is packed: only a model that was loaded with plain weights can be saved", name);
  std::vector<TensorSource> out;
  const auto places = family.layouts(model).at(layout);
  std::map<std::string, std::vector<const TensorPlace*>> parts;
  for (const auto& place : places) parts[place.stored].push_back(&place);
  for (const auto& place : places) {
    const auto& of_it = parts.at(place.stored);
    if (of_it.front() != &place) continue;
    const auto first = part(tensors.at(place.parameter).detach(), place);
    const auto type = first.scalar_type();
    const bool is_weight = type == torch::kFloat32 || type == torch::kFloat64;
    const DType stored = is_weight && !keeps_float32(place.stored) ? dtype : stored_type(type, place.stored);
    if (place.part.whole()) {
      out.push_back(source(place.stored, stored, sizes(place), [first] { return first; }));
      continue;
    }
    std::vector<std::pair<torch::Tensor, StoredPart>> pieces;
    for (const TensorPlace* one : of_it) pieces.emplace_back(part(tensors.at(one->parameter).detach(), *one), one->part);
    out.push_back(source(place.stored, stored, sizes(place), [pieces, type, shape = sizes(place)] {
      auto whole = torch::empty(shape, type);
      for (const auto& [tensor, where] : pieces) view_of(whole, where).copy_(tensor);
      return whole;
    }));
  }
  return out;
}

std::string long_name(DType dtype) { return dtype == DType::f32 ? "float32" : dtype == DType::bf16 ? "bfloat16" : "float16"; }

TensorSource as_stored(const std::string& name, const torch::Tensor& tensor) {
  return source(name, stored_type(tensor.scalar_type(), name), tensor.sizes().vec(), [kept = tensor.detach()] { return kept; });
}

torch::Tensor as_tensor(const TensorEntry& entry) {
  if (entry.decode) {
    auto out = torch::empty(entry.shape, torch::kFloat32);
    to_float32(entry, out.data_ptr<float>());
    return out;
  }
  auto out = torch::empty(entry.shape, torch_type(entry.dtype, entry.name));
  if (!entry.bytes.empty()) std::memcpy(out.data_ptr(), entry.bytes.data(), entry.bytes.size());
  return out;
}

}  // namespace switchyard
