// The few collective operations that expert parallelism needs. Ranks call them in the same order; a rank that fails makes
// the others throw Error{communication} rather than wait for ever.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace switchyard {

class Communicator {
 public:
  virtual ~Communicator() = default;
  [[nodiscard]] virtual int64_t rank() const = 0;
  [[nodiscard]] virtual int64_t size() const = 0;

  // Ranks with the same colour form a new communicator, ordered by (key, rank).
  [[nodiscard]] virtual std::shared_ptr<Communicator> split(int64_t colour, int64_t key) = 0;

  // Every rank sends send_bytes[r] bytes to rank r, taken in rank order from `send`, and receives recv_bytes[r] bytes from
  // rank r, stored in rank order. Throws Error{communication} when the announced counts do not match.
  virtual void all_to_all_v(std::span<const std::byte> send, std::span<const int64_t> send_bytes, std::span<std::byte> recv,
                            std::span<const int64_t> recv_bytes) = 0;
  // In-place sum over ranks, added in rank order so that the result is the same everywhere and every time.
  virtual void all_reduce_sum(std::span<float> values) = 0;
  virtual void all_reduce_sum(std::span<double> values) = 0;
  virtual void all_reduce_sum(std::span<int64_t> values) = 0;
  // recv holds size() blocks of send.size() bytes in rank order.
  virtual void all_gather(std::span<const std::byte> send, std::span<std::byte> recv) = 0;
  virtual void broadcast(std::span<std::byte> values, int64_t root) = 0;
  virtual void barrier() = 0;
};

// One rank: every operation is a copy.
[[nodiscard]] std::shared_ptr<Communicator> self_communicator();

// Runs `body` on `ranks` threads of this process, each with its own communicator, and waits for all. The first exception
// of any rank is rethrown here.
void for_each_rank(int64_t ranks, const std::function<void(const std::shared_ptr<Communicator>&)>& body);

}  // namespace switchyard
