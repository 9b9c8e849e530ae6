// Threads of one process as ranks. Settings that belong to a thread (gradient recording, compute type) start at their
// defaults on every rank; the threads that the caller may use for tensors are shared out among the ranks.
#include "comm/threads.h"
#include "switchyard/error.h"

#include <ATen/Parallel.h>
#include <omp.h>

#include <algorithm>
#include <numeric>
#include <thread>

namespace switchyard {
namespace {

void use_threads(int n) {
  (void)at::get_num_threads();  // first use in a thread copies the setting of the process, which would undo the next line
  omp_set_num_threads(n);       // acts on the calling thread only; at::set_num_threads would change the process
}

}  // namespace

void for_each_rank(int64_t ranks, const std::function<void(const std::shared_ptr<Communicator>&)>& body) {
  if (ranks < 1) fail(ErrorKind::usage, "for_each_rank: {} ranks, expected at least 1", ranks);
  const auto world = std::make_shared<comm::World>(ranks);
  std::vector<int64_t> members(static_cast<size_t>(ranks));
  std::iota(members.begin(), members.end(), int64_t{0});
  const auto everyone = std::make_shared<comm::Group>(world, members);
  const int threads_per_rank = std::max(1, static_cast<int>(at::get_num_threads() / ranks));

  const auto run = [&](int64_t rank) noexcept {
    try {
      use_threads(threads_per_rank);
      body(comm::thread_communicator(everyone, rank));
      world->record_return(rank);
    } catch (...) {
      world->record_failure(rank, std::current_exception());
    }
  };
  std::vector<std::thread> threads;
  try {
    threads.reserve(members.size());
    for (const auto rank : members) threads.emplace_back(run, rank);
  } catch (...) {  // no more threads: those that run must not wait for the rest
    world->record_failure(static_cast<int64_t>(threads.size()), std::current_exception());
  }
  for (auto& t : threads) t.join();
  if (const auto failure = world->first_failure()) std::rethrow_exception(failure);
}

}  // namespace switchyard
