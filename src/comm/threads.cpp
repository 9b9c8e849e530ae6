#include "comm/threads.h"

#include "comm/arguments.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace switchyard::comm {
namespace {

using Calls = std::span<const Call>;

class Threads final : public Communicator {
 public:
  Threads(std::shared_ptr<Group> group, int64_t rank) : group_(std::move(group)), rank_(rank) {}

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return group_->size(); }
  std::shared_ptr<Communicator> split(int64_t colour, int64_t key) override;
  void all_to_all_v(std::span<const std::byte> send, std::span<const int64_t> send_bytes, std::span<std::byte> recv,
                    std::span<const int64_t> recv_bytes) override;
  void all_reduce_sum(std::span<float> values) override { add_up("all_reduce_sum of float", values); }
  void all_reduce_sum(std::span<double> values) override { add_up("all_reduce_sum of double", values); }
  void all_reduce_sum(std::span<int64_t> values) override { add_up("all_reduce_sum of int64", values); }
  void all_gather(std::span<const std::byte> send, std::span<std::byte> recv) override;
  void broadcast(std::span<std::byte> values, int64_t root) override;
  void barrier() override {
    group_->meet(rank_, {.operation = "barrier"}, [](Calls) {});
  }

 private:
  template <class T> void add_up(std::string_view operation, std::span<T> values);
  void check_lengths(Calls calls) const;
  void check_counts(Calls calls) const;

  std::shared_ptr<Group> group_;
  int64_t rank_;
};

// Every rank must show as many bytes as rank 0.
void Threads::check_lengths(Calls calls) const {
  for (size_t r = 1; r < calls.size(); ++r)
    if (calls[r].send.size() != calls[0].send.size())
      fail(ErrorKind::communication, "rank {} of {}: rank 0 has {} bytes, rank {} has {} ({})", rank_, size(), calls[0].send.size(), r,
           calls[r].send.size(), calls[0].operation);
}

// Every rank looks at the counts of all, so that all throw the same.
void Threads::check_counts(Calls calls) const {
  for (size_t to = 0; to < calls.size(); ++to)
    for (size_t from = 0; from < calls.size(); ++from)
      if (const auto sent = calls[from].send_bytes[to], expected = calls[to].recv_bytes[from]; sent != expected)
        fail(ErrorKind::communication, "rank {} of {}: rank {} sends {} bytes to rank {}, which expects {} ({})", rank_, size(), from, sent, to,
             expected, calls[0].operation);
}

void Threads::all_to_all_v(std::span<const std::byte> send, std::span<const int64_t> send_bytes, std::span<std::byte> recv,
                           std::span<const int64_t> recv_bytes) {
  check_byte_counts(rank_, size(), "send", send_bytes, send.size());
  check_byte_counts(rank_, size(), "receive", recv_bytes, recv.size());
  const Call call{.operation = "all_to_all_v", .send = send, .recv = recv, .send_bytes = send_bytes, .recv_bytes = recv_bytes};
  group_->meet(rank_, call, [&](Calls calls) {
    check_counts(calls);
    auto out = recv.begin();
    for (const auto& peer : calls) {
      const auto first = std::accumulate(peer.send_bytes.begin(), peer.send_bytes.begin() + rank_, int64_t{0});
      out = std::copy_n(peer.send.begin() + first, peer.send_bytes[static_cast<size_t>(rank_)], out);
    }
  });
}

// Rank r adds up the r-th share of the elements and writes the sums to every rank: one order, one writer per element.
template <class T> void Threads::add_up(std::string_view operation, std::span<T> values) {
  const auto bytes = std::as_writable_bytes(values);
  group_->meet(rank_, {.operation = operation, .send = bytes, .recv = bytes}, [&](Calls calls) {
    check_lengths(calls);
    std::vector<T*> of;
    for (const auto& peer : calls) of.push_back(reinterpret_cast<T*>(peer.recv.data()));
    const auto share = [&](int64_t r) { return static_cast<int64_t>(values.size()) * r / size(); };
    for (auto i = share(rank_); i < share(rank_ + 1); ++i) {
      T sum = of[0][i];
      for (size_t r = 1; r < of.size(); ++r) sum += of[r][i];
      for (T* v : of) v[i] = sum;
    }
  });
}

void Threads::all_gather(std::span<const std::byte> send, std::span<std::byte> recv) {
  check_gather_sizes(rank_, size(), send.size(), recv.size());
  group_->meet(rank_, {.operation = "all_gather", .send = send}, [&](Calls calls) {
    check_lengths(calls);
    auto out = recv.begin();
    for (const auto& peer : calls) out = std::copy(peer.send.begin(), peer.send.end(), out);
  });
}

void Threads::broadcast(std::span<std::byte> values, int64_t root) {
  check_root(rank_, size(), root);
  group_->meet(rank_, {.operation = "broadcast", .send = values, .root = root}, [&](Calls calls) {
    for (size_t r = 1; r < calls.size(); ++r)
      if (calls[r].root != calls[0].root)
        fail(ErrorKind::communication, "rank {} of {}: rank 0 broadcasts from rank {}, rank {} from rank {}", rank_, size(), calls[0].root, r, calls[r].root);
    check_lengths(calls);
    const auto& source = calls[static_cast<size_t>(root)].send;
    if (rank_ != root) std::copy(source.begin(), source.end(), values.begin());
  });
}

std::shared_ptr<Communicator> Threads::split(int64_t colour, int64_t key) {
  std::vector<std::pair<int64_t, int64_t>> mine;  // (key, rank) of the ranks with this colour
  group_->meet(rank_, {.operation = "split", .colour = colour, .key = key}, [&](Calls calls) {
    for (int64_t r = 0; r < size(); ++r)
      if (const auto& peer = calls[static_cast<size_t>(r)]; peer.colour == colour) mine.emplace_back(peer.key, r);
  });
  std::sort(mine.begin(), mine.end());
  const auto leader = mine.front().second;
  std::shared_ptr<Group> group;
  if (leader == rank_) {
    std::vector<int64_t> members;
    for (const auto& [unused, r] : mine) members.push_back(group_->members()[static_cast<size_t>(r)]);
    group = std::make_shared<Group>(group_->world(), std::move(members));
  }
  group_->meet(rank_, {.operation = "split", .group = group}, [&](Calls calls) { group = calls[static_cast<size_t>(leader)].group; });
  const auto place = std::find(mine.begin(), mine.end(), std::pair{key, rank_});
  return thread_communicator(std::move(group), place - mine.begin());
}

}  // namespace

std::shared_ptr<Communicator> thread_communicator(std::shared_ptr<Group> group, int64_t rank) {
  return std::make_shared<Threads>(std::move(group), rank);
}

}  // namespace switchyard::comm
