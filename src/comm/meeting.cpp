#include "comm/meeting.h"

#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::comm {
namespace {

std::string text_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "an exception of unknown type";
  }
}

}  // namespace

void World::record_failure(int64_t rank, const std::exception_ptr& failure) noexcept {
  const std::lock_guard lock(mutex_);
  if (!failure_) {
    failure_ = failure;
    failed_rank_ = rank;
  }
  changed_.notify_all();
}

void World::record_return(int64_t rank) {
  const std::lock_guard lock(mutex_);
  left_[static_cast<size_t>(rank)] = true;
  changed_.notify_all();
}

std::exception_ptr World::first_failure() {
  const std::lock_guard lock(mutex_);
  return failure_;
}

Group::Group(std::shared_ptr<World> world, std::vector<int64_t> members)
    : world_(std::move(world)), members_(std::move(members)), calls_(members_.size()) {}

bool Group::broken() const {
  return world_->failure_ || std::any_of(members_.begin(), members_.end(), [&](int64_t m) { return world_->left_[static_cast<size_t>(m)]; });
}

void Group::throw_if_broken(int64_t rank) const {
  const auto me = members_[static_cast<size_t>(rank)], size = world_->size();
  if (world_->failure_)
    fail(ErrorKind::communication, "rank {} of {}: rank {} has failed: {}", me, size, world_->failed_rank_, text_of(world_->failure_));
  for (const auto m : members_)
    if (world_->left_[static_cast<size_t>(m)])
      fail(ErrorKind::communication, "rank {} of {}: rank {} has returned and takes no part in {}", me, size, m,
           calls_[static_cast<size_t>(rank)].operation);
}

void Group::open(int64_t rank) {
  std::unique_lock lock(world_->mutex_);
  throw_if_broken(rank);
  const auto round = round_;
  if (++arrived_ == size()) {
    arrived_ = 0;
    ++round_;
    world_->changed_.notify_all();
    return;
  }
  world_->changed_.wait(lock, [&] { return round_ != round || broken(); });
  if (round_ != round) return;  // complete, whatever happened since: the others are at work and count on this rank
  --arrived_;
  throw_if_broken(rank);
}

void Group::close() {
  std::unique_lock lock(world_->mutex_);
  const auto round = round_;
  if (++arrived_ == size()) {
    arrived_ = 0;
    ++round_;
    world_->changed_.notify_all();
    return;
  }
  world_->changed_.wait(lock, [&] { return round_ != round; });
}

void Group::check_operations(int64_t rank) const {
  for (int64_t r = 1; r < size(); ++r)
    if (calls_[static_cast<size_t>(r)].operation != calls_[0].operation)
      fail(ErrorKind::communication, "rank {} of {}: rank 0 is in {}, rank {} is in {}", rank, size(), calls_[0].operation, r,
           calls_[static_cast<size_t>(r)].operation);
}

void Group::meet(int64_t rank, Call call, const std::function<void(std::span<const Call>)>& work) {
  auto& mine = calls_[static_cast<size_t>(rank)];
  mine = std::move(call);
  open(rank);
  std::exception_ptr failure;
  try {
    check_operations(rank);
    work(calls_);
  } catch (...) {
    failure = std::current_exception();
  }
  close();
  mine.group.reset();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace switchyard::comm
