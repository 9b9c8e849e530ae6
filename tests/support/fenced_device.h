// A device for tests: libtorch's XPU, which no build of it here has, played by the CPU. Its memory lies behind a fence, an address
// range that cannot be read or written, and only the operations of libtorch reach it. So code that would be wrong on a GPU is
// wrong here: touching data of the device through a pointer ends the program, and an operation on tensors of two devices throws.
//
// Include it in one file of a program.
#pragma once

#include <ATen/ATen.h>
#include <ATen/native/Resize.h>
#include <c10/core/impl/FakeGuardImpl.h>
#include <sys/mman.h>
#include <torch/library.h>

#include <cstdlib>
#include <map>
#include <mutex>

namespace switchyard::testing {

inline const torch::Device kFencedDevice(torch::kXPU, 0);

namespace fenced {

// Address behind the fence -> memory that holds the data.
class Memory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) const override {
    const size_t size = (bytes / kPage + 1) * kPage;
    void* const fence = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fence == MAP_FAILED) std::abort();
    const std::scoped_lock lock(mutex());
    table()[fence] = {std::aligned_alloc(64, size), size};
    return {fence, fence, &release, kFencedDevice};
  }
  static void* data(const void* fence) {
    const std::scoped_lock lock(mutex());
    return fence ? table().at(const_cast<void*>(fence)).first : nullptr;
  }

 private:
  static constexpr size_t kPage = 4096;
  static std::mutex& mutex() {
    static std::mutex m;
    return m;
  }
  static std::map<void*, std::pair<void*, size_t>>& table() {
    static auto* t = new std::map<void*, std::pair<void*, size_t>>;  // tensors may outlive every static object
    return *t;
  }
  static void release(void* fence) {
    const std::scoped_lock lock(mutex());
    const auto found = table().find(fence);
    std::free(found->second.first);
    munmap(fence, found->second.second);
    table().erase(found);
  }
};

inline Memory& memory() {
  static Memory m;
  return m;
}

inline bool here(const at::Tensor& t) { return t.defined() && t.device().type() == kFencedDevice.type(); }

inline at::Tensor empty_strided(c10::IntArrayRef sizes, c10::IntArrayRef strides, c10::optional<at::ScalarType> dtype) {
  const auto type = at::scalarTypeToTypeMeta(dtype.value_or(at::kFloat));
  const auto bytes = static_cast<int64_t>(at::detail::computeStorageNbytes(sizes, strides, type.itemsize()));
  auto storage = c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), bytes, memory().allocate(static_cast<size_t>(bytes)), &memory(), true);
  auto out = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(c10::DispatchKey::XPU), type);
  out.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
  return out;
}

inline at::Tensor empty(c10::IntArrayRef sizes, c10::optional<at::ScalarType> dtype, c10::optional<at::Layout>, c10::optional<at::Device>, c10::optional<bool>,
                        c10::optional<at::MemoryFormat>) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<int64_t>(sizes[i], 1);
  return empty_strided(sizes, strides, dtype);
}

inline at::Tensor empty_with_strides(c10::IntArrayRef sizes, c10::IntArrayRef strides, c10::optional<at::ScalarType> dtype, c10::optional<at::Layout>,
                                     c10::optional<at::Device>, c10::optional<bool>) {
  return empty_strided(sizes, strides, dtype);
}

// The same elements as a tensor of the CPU.
inline at::Tensor on_cpu(const at::Tensor& t) {
  if (t.numel() == 0) return at::empty(t.sizes(), t.scalar_type());  // an output whose size comes later
  const auto bytes = t.storage().nbytes();
  const c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, c10::DataPtr(Memory::data(t.storage().data_ptr().get()), c10::kCPU));
  auto out = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), t.dtype());
  out.unsafeGetTensorImpl()->set_storage_offset(t.storage_offset());
  out.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides());
  return out;
}

inline at::Tensor from_cpu(const at::Tensor& t) {
  auto out = empty_strided(t.sizes(), t.strides(), t.scalar_type());
  on_cpu(out).copy_(t);
  return out;
}

inline at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  (here(to) ? on_cpu(to) : to).copy_(here(from) ? on_cpu(from) : from);
  return to;
}

// Runs an operation on the CPU's view of its tensors.
class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack* stack) : op_(op), stack_(stack) {
    const size_t count = op.schema().arguments().size();
    for (size_t i = stack->size() - count; i < stack->size(); ++i) (*stack)[i] = replaced((*stack)[i]);
    if (away_ && !pairs_.empty())
      TORCH_CHECK(false, "Expected all tensors to be on the same device: ", op.schema().name(), " met tensors of the CPU and of the device");
  }
  void run() {
    for (const auto& result : op_.schema().returns())
      TORCH_CHECK(!result.alias_info() || result.alias_info()->isWrite(), op_.schema().name(), " gives a view, which has to be told to the fenced device by itself");
    op_.callBoxed(stack_);
    const size_t count = op_.schema().returns().size();
    for (const auto& [theirs, mine] : pairs_) follow(theirs, mine);
    for (size_t i = stack_->size() - count; i < stack_->size(); ++i) (*stack_)[i] = returned((*stack_)[i]);
  }

 private:
  at::Tensor taken(const at::Tensor& t) {
    if (!here(t)) {
      away_ = away_ || (t.defined() && t.dim() > 0);
      return t;
    }
    pairs_.emplace_back(on_cpu(t), t);
    return pairs_.back().first;
  }
  c10::IValue replaced(const c10::IValue& v) {
    if (v.isTensor()) return taken(v.toTensor());
    if (v.isTensorList()) {
      std::vector<at::Tensor> list;
      for (const at::Tensor& t : v.toTensorVector()) list.push_back(taken(t));
      return list;
    }
    if (v.isOptionalTensorList()) {
      c10::List<c10::optional<at::Tensor>> list;
      for (const auto& t : v.toOptionalTensorList()) {
        const c10::optional<at::Tensor> one = t;
        list.push_back(one ? c10::optional<at::Tensor>(taken(*one)) : c10::nullopt);
      }
      return list;
    }
    if (v.isDevice() && v.toDevice() == kFencedDevice) return c10::Device(c10::kCPU);
    return v;
  }
  // An operation may give its output another size.
  static void follow(const at::Tensor& theirs, const at::Tensor& mine) {
    if (theirs.sizes() == mine.sizes()) return;
    const auto grown = from_cpu(theirs);
    mine.unsafeGetTensorImpl()->set_storage_keep_dtype(grown.storage());
    mine.unsafeGetTensorImpl()->set_sizes_and_strides(grown.sizes(), grown.strides());
  }
  at::Tensor given(const at::Tensor& t) const {
    for (const auto& [theirs, mine] : pairs_)
      if (t.is_same(theirs)) return mine;
    return t.defined() ? from_cpu(t) : t;
  }
  c10::IValue returned(const c10::IValue& v) const {
    if (v.isTensor()) return given(v.toTensor());
    if (!v.isTensorList()) return v;
    std::vector<at::Tensor> list;
    for (const at::Tensor& t : v.toTensorVector()) list.push_back(given(t));
    return list;
  }

  const c10::OperatorHandle& op_;
  torch::jit::Stack* stack_;
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;  // the CPU's view, the tensor of the device
  bool away_ = false;
};

inline void by_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) { Call(op, stack).run(); }

}  // namespace fenced

TORCH_LIBRARY_IMPL(_, XPU, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fenced::by_cpu>()); }
TORCH_LIBRARY_IMPL(aten, XPU, m) {
  m.impl("empty.memory_format", &fenced::empty);
  m.impl("empty_strided", &fenced::empty_with_strides);
  m.impl("_copy_from", &fenced::copy_from);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("unfold", &at::native::unfold);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
}

static c10::impl::DeviceGuardImplRegistrar guard_of_the_fenced_device(c10::DeviceType::XPU, new c10::impl::FakeGuardImpl<c10::DeviceType::XPU>());

}  // namespace switchyard::testing
