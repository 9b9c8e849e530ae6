// Where threads that act as ranks meet. Everything in src/comm that waits, waits here.
//
// A collective is one meeting: every rank shows a Call (views of its own memory), all wait until everybody is there, each
// does its share of the work by reading and writing the memory of the others, and all wait again before anyone leaves.
// Only the first wait can fail: when a rank of the world has failed, or a member has returned. Once it is over, every
// member reaches the second one without waiting for anything, so memory that others still look at is never freed.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::comm {

// All ranks that started together. A failure of one is a failure of all, whatever groups they form.
class World {
 public:
  explicit World(int64_t size) : left_(static_cast<size_t>(size)) {}

  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(left_.size()); }
  // The rank has thrown; the first one counts. Wakes everyone who waits.
  void record_failure(int64_t rank, const std::exception_ptr& failure) noexcept;
  // The rank has returned and will take part in nothing any more.
  void record_return(int64_t rank);
  // Null when nobody failed.
  [[nodiscard]] std::exception_ptr first_failure();

 private:
  friend class Group;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<bool> left_;
  std::exception_ptr failure_;
  int64_t failed_rank_ = -1;
};

class Group;

// What a rank brings to a meeting. Views into its own memory, valid until the meeting is over.
struct Call {
  std::string_view operation;
  std::span<const std::byte> send = {};
  std::span<std::byte> recv = {};
  std::span<const int64_t> send_bytes = {}, recv_bytes = {};
  int64_t colour = 0, key = 0, root = 0;
  std::shared_ptr<Group> group = nullptr;
};

// Some ranks of a world, with a place to meet. Rank r of the group is rank members[r] of the world.
class Group {
 public:
  Group(std::shared_ptr<World> world, std::vector<int64_t> members);

  [[nodiscard]] int64_t size() const { return static_cast<int64_t>(members_.size()); }
  [[nodiscard]] const std::shared_ptr<World>& world() const { return world_; }
  [[nodiscard]] const std::vector<int64_t>& members() const { return members_; }

  // Runs work(calls of all ranks) on every rank. Throws Error{communication} when the ranks are in different operations,
  // and what `work` throws; either way all have done looking at the memory of `call`.
  void meet(int64_t rank, Call call, const std::function<void(std::span<const Call>)>& work);

 private:
  void open(int64_t rank);
  void close();
  void throw_if_broken(int64_t rank) const;  // the caller holds the mutex of the world
  [[nodiscard]] bool broken() const;
  void check_operations(int64_t rank) const;

  std::shared_ptr<World> world_;
  std::vector<int64_t> members_;
  std::vector<Call> calls_;  // [size]; entry r is written by rank r before the first wait, read between the two
  int64_t arrived_ = 0;
  uint64_t round_ = 0;
};

}  // namespace switchyard::comm
