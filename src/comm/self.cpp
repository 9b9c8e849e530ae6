// The communicator of a program that runs alone.
#include "comm/arguments.h"
#include "switchyard/communicator.h"

#include <algorithm>

namespace switchyard {
namespace {

class Self final : public Communicator, public std::enable_shared_from_this<Self> {
 public:
  int64_t rank() const override { return 0; }
  int64_t size() const override { return 1; }
  std::shared_ptr<Communicator> split(int64_t, int64_t) override { return shared_from_this(); }

  void all_to_all_v(std::span<const std::byte> send, std::span<const int64_t> send_bytes, std::span<std::byte> recv,
                    std::span<const int64_t> recv_bytes) override {
    comm::check_byte_counts(0, 1, "send", send_bytes, send.size());
    comm::check_byte_counts(0, 1, "receive", recv_bytes, recv.size());
    if (send.size() != recv.size())
      fail(ErrorKind::communication, "rank 0 of 1: rank 0 sends {} bytes to itself and expects {} (all_to_all_v)", send.size(), recv.size());
    std::copy(send.begin(), send.end(), recv.begin());
  }
  void all_reduce_sum(std::span<float>) override {}
  void all_reduce_sum(std::span<double>) override {}
  void all_reduce_sum(std::span<int64_t>) override {}
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv) override {
    comm::check_gather_sizes(0, 1, send.size(), recv.size());
    std::copy(send.begin(), send.end(), recv.begin());
  }
  void broadcast(std::span<std::byte>, int64_t root) override { comm::check_root(0, 1, root); }
  void barrier() override {}
};

}  // namespace

std::shared_ptr<Communicator> self_communicator() { return std::make_shared<Self>(); }

}  // namespace switchyard
