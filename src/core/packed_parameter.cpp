// A packed parameter is a tensor of the right shape over memory that nobody should read: pages of NaN, one small file of
// them mapped again and again. Its address names the packed weights.
#include "core/packed_parameter.h"

#include "switchyard/error.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <limits>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <unordered_map>

namespace switchyard {
namespace {

static_assert(static_cast<int>(PackedRows::gate_then_up) == static_cast<int>(kernels::packed::RowOrder::gate_then_up) &&
              static_cast<int>(PackedRows::gate_up_alternating) == static_cast<int>(kernels::packed::RowOrder::gate_up_alternating));

std::shared_mutex table_mutex;
std::unordered_map<const void*, std::shared_ptr<const PackedWeights>> table;  // by the address of the stand-in
std::atomic<int64_t> table_size{0};

constexpr int64_t kNanFile = 16 << 20;

int file_of_nan() {
  static const int file = [] {
    const int fd = ::memfd_create("nan", MFD_CLOEXEC);
    if (fd < 0 || ::ftruncate(fd, kNanFile) != 0) throw std::bad_alloc();
    void* block = ::mmap(nullptr, kNanFile, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (block == MAP_FAILED) throw std::bad_alloc();
    std::fill_n(static_cast<float*>(block), kNanFile / 4, std::numeric_limits<float>::quiet_NaN());
    ::munmap(block, kNanFile);
    return fd;
  }();
  return file;
}

char* map_nan(int64_t bytes) {
  void* block = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  for (int64_t done = 0; done < bytes; done += kNanFile) {
    const auto size = static_cast<size_t>(std::min(kNanFile, bytes - done));
    if (::mmap(static_cast<char*>(block) + done, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file_of_nan(), 0) == MAP_FAILED)
      throw std::bad_alloc();
  }
  return static_cast<char*>(block);
}

std::shared_ptr<const PackedWeights> packed_from(const torch::Tensor& x, WeightFormat format, kernels::packed::RowOrder order) {
  const int64_t dims = x.dim();
  if (dims < 2 || dims > 3 || !x.is_contiguous() || x.scalar_type() != torch::kFloat32)
    fail(ErrorKind::internal, "what is to be packed is no contiguous float32 matrix");
  const int64_t experts = dims == 3 ? x.size(0) : 1, n = x.size(dims - 2), k = x.size(dims - 1);
  auto packed = std::make_shared<PackedWeights>(format, experts, n, k, order);
  for (int64_t e = 0; e < experts; ++e) packed->pack(e, x.data_ptr<float>() + e * n * k);
  return packed;
}

}  // namespace

torch::Tensor stand_in(std::shared_ptr<const PackedWeights> weights, torch::IntArrayRef shape) {
  constexpr int64_t kPage = 4096;
  int64_t bytes = sizeof(float);
  for (const int64_t size : shape) bytes *= size;
  bytes = (bytes + kPage - 1) / kPage * kPage;
  char* const block = map_nan(bytes);
  {
    const std::unique_lock lock(table_mutex);
    table.emplace(block, std::move(weights));
    ++table_size;
  }
  return torch::from_blob(
      block, shape,
      [block, bytes](void*) {
        const std::unique_lock lock(table_mutex);
        table.erase(block);
        --table_size;
        ::munmap(block, static_cast<size_t>(bytes));
      },
      torch::kFloat32);
}

void pack_parameter(const Packable& part, WeightFormat format) {
  const torch::Tensor& parameter = part.parameter;
  if (parameter.storage_offset() != 0) fail(ErrorKind::internal, "a parameter that is to be packed is a view of another");
  if (packed_form(parameter)) fail(ErrorKind::internal, "a parameter is packed already");
  auto packed = packed_from(parameter, format, static_cast<kernels::packed::RowOrder>(part.rows));
  const torch::NoGradGuard no_grad;
  parameter.set_data(stand_in(std::move(packed), parameter.sizes()));
}

torch::Tensor packed_copy(const torch::Tensor& matrix, WeightFormat format) {
  return stand_in(packed_from(matrix, format, kernels::packed::RowOrder::as_stored), matrix.sizes());
}

const PackedWeights* packed_form(const torch::Tensor& parameter) {
  if (table_size.load(std::memory_order_relaxed) == 0 || !parameter.device().is_cpu()) return nullptr;
  const std::shared_lock lock(table_mutex);
  const auto found = table.find(parameter.data_ptr());
  return found == table.end() ? nullptr : found->second.get();
}

}  // namespace switchyard
