// Every collective on 1 to 4 ranks, against what its definition says, on bytes that are a function of who sends to whom.
#include "switchyard/communicator.h"

#include "expect_error.h"
#include "switchyard/random.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <thread>

namespace switchyard {
namespace {

using Bytes = std::vector<std::byte>;
using Comm = std::shared_ptr<Communicator>;

// What rank `from` sends to rank `to` in this round: 0 to 39 bytes, about a quarter of the messages empty.
Bytes message(int64_t from, int64_t to, int64_t round) {
  const auto stream = RandomStream(11).at("from", from).at("to", to).at("round", round);
  Bytes out(stream.below(0, 4) == 0 ? 0 : stream.below(1, 40));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(stream.below(2 + i, 256));
  return out;
}

// Messages of a rank one after the other, and their lengths.
struct Packed {
  Bytes bytes;
  std::vector<int64_t> counts;
  void add(const Bytes& m) {
    bytes.insert(bytes.end(), m.begin(), m.end());
    counts.push_back(static_cast<int64_t>(m.size()));
  }
};

void expect_exchange(Communicator& comm, int64_t round) {
  Packed send, want;
  for (int64_t r = 0; r < comm.size(); ++r) {
    send.add(message(comm.rank(), r, round));
    want.add(message(r, comm.rank(), round));
  }
  Bytes got(want.bytes.size(), std::byte{0xEE});
  comm.all_to_all_v(send.bytes, send.counts, got, want.counts);
  EXPECT_EQ(got, want.bytes) << "rank " << comm.rank() << " of " << comm.size() << ", round " << round;
}

// A sum that depends on the order of its terms in float32.
template <class T> T term(int64_t rank, int64_t i) {
  return static_cast<T>(RandomStream(5).at("rank", rank).normal(i) * (i % 3 == 0 ? 1e6 : 1));
}
template <class T> void expect_sum(Communicator& comm, int64_t n) {
  std::vector<T> got(n), want(n);
  for (int64_t i = 0; i < n; ++i) {
    got[i] = term<T>(comm.rank(), i);
    want[i] = term<T>(0, i);
    for (int64_t r = 1; r < comm.size(); ++r) want[i] += term<T>(r, i);
  }
  comm.all_reduce_sum(std::span(got));
  EXPECT_EQ(got, want) << "rank " << comm.rank() << " of " << comm.size();
}

void expect_all_operations(Communicator& comm) {
  for (int64_t round = 0; round < 20; ++round) expect_exchange(comm, round);
  for (const int64_t n : {0, 1, 3, 17, 1000}) {
    expect_sum<float>(comm, n);
    expect_sum<double>(comm, n);
    expect_sum<int64_t>(comm, n);
  }
  for (const size_t n : {0, 1, 5}) {
    const Bytes send(n, static_cast<std::byte>(comm.rank() + 1));
    Bytes got(n * comm.size()), want;
    comm.all_gather(send, got);
    for (int64_t r = 0; r < comm.size(); ++r) want.insert(want.end(), n, static_cast<std::byte>(r + 1));
    EXPECT_EQ(got, want);
  }
  for (int64_t root = 0; root < comm.size(); ++root) {
    Bytes values(9, static_cast<std::byte>(comm.rank() + 1));
    comm.broadcast(values, root);
    EXPECT_EQ(values, Bytes(9, static_cast<std::byte>(root + 1)));
  }
  comm.barrier();
}

class Ranks : public ::testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(OneToFour, Ranks, ::testing::Values(1, 2, 3, 4));

TEST_P(Ranks, EveryOperationDoesWhatItsDefinitionSays) {
  for_each_rank(GetParam(), [&](const Comm& comm) {
    EXPECT_EQ(comm->size(), GetParam());
    expect_all_operations(*comm);
  });
}

TEST_P(Ranks, ManyRoundsInDifferentOrdersOfArrival) {
  for_each_rank(GetParam(), [](const Comm& comm) {
    for (int64_t round = 0; round < 400; ++round) {
      if (RandomStream(3).at("late", round).below(comm->rank(), 8) == 0) std::this_thread::yield();
      expect_exchange(*comm, round);
      std::vector<int64_t> sum{round, comm->rank()};
      comm->all_reduce_sum(std::span(sum));
      ASSERT_EQ(sum[0], round * comm->size());
    }
  });
}

TEST(SelfCommunicator, CopiesAndAddsNothing) {
  const auto comm = self_communicator();
  EXPECT_EQ(comm->rank(), 0);
  expect_all_operations(*comm);
  expect_all_operations(*comm->split(3, -1));
}

TEST(Split, RanksOfOneColourAreOrderedByKeyThenRank) {
  for_each_rank(4, [](const Comm& world) {
    const auto half = world->split(world->rank() % 2, -world->rank());  // {2, 0} and {3, 1}
    EXPECT_EQ(half->size(), 2);
    EXPECT_EQ(half->rank(), world->rank() < 2 ? 1 : 0);
    expect_all_operations(*half);
    const auto tied = world->split(0, 7);
    EXPECT_EQ(tied->rank(), world->rank());
    expect_all_operations(*tied);
    const auto alone = half->split(half->rank(), 0);
    EXPECT_EQ(alone->size(), 1);
    expect_all_operations(*alone);
  });
}

TEST(Split, GroupsDoNotWaitForEachOther) {
  for_each_rank(3, [](const Comm& world) {
    const auto group = world->split(world->rank() == 2, 0);
    for (int64_t i = 0; i < (world->rank() == 2 ? 5 : 50); ++i) group->barrier();
    world->barrier();
  });
}

TEST(Failure, OfOneRankIsAnErrorOnTheOthersAndIsRethrown) {
  for (int64_t ranks = 1; ranks <= 4; ++ranks) {
    std::vector<std::string> seen(ranks);
    const auto run = [&] {
      for_each_rank(ranks, [&](const Comm& comm) {
        comm->barrier();
        if (comm->rank() == ranks - 1) throw std::runtime_error("out of luck");
        try {
          for (;;) comm->barrier();
        } catch (const Error& e) {
          seen[comm->rank()] = e.what();
          EXPECT_EQ(e.kind(), ErrorKind::communication);
          throw;
        }
      });
    };
    EXPECT_THROW(
        try { run(); } catch (const std::runtime_error& e) {
          EXPECT_STREQ(e.what(), "out of luck");
          throw;
        },
        std::runtime_error);
    for (int64_t r = 0; r + 1 < ranks; ++r)
      EXPECT_EQ(seen[r], fmt::format("rank {} of {}: rank {} has failed: out of luck", r, ranks, ranks - 1));
  }
}

TEST(Failure, ReachesRanksThatWaitInOtherGroups) {
  testing::expect_error(ErrorKind::config, {"first"}, [] {
    for_each_rank(4, [](const Comm& world) {
      const auto pair = world->split(world->rank() / 2, 0);
      if (world->rank() == 0) fail(ErrorKind::config, "first");
      for (;;) pair->barrier();
    });
  });
}

TEST(Failure, IsPossibleAgainAndAgain) {
  for (int i = 0; i < 100; ++i)
    testing::expect_error(ErrorKind::config, {"lost"}, [&] {
      for_each_rank(3, [&](const Comm& comm) {
        for (int64_t step = 0;; ++step) {
          if (comm->rank() == i % 3 && step == i % 7) fail(ErrorKind::config, "lost");
          expect_exchange(*comm, step);
        }
      });
    });
}

TEST(Failure, RankThatReturnedTakesPartInNothing) {
  testing::expect_error(ErrorKind::communication, {"rank 0 of 2: rank 1 has returned and takes no part in all_reduce_sum of float"}, [] {
    for_each_rank(2, [](const Comm& comm) {
      comm->barrier();
      std::vector<float> x(3);
      if (comm->rank() == 0) comm->all_reduce_sum(std::span(x));
    });
  });
}

TEST(Mismatch, OfCountsNamesSenderAndReceiverOnEveryRank) {
  std::vector<std::string> seen(4);
  for_each_rank(4, [&](const Comm& comm) {
    Bytes send(4 * 8), recv(4 * 8);
    std::vector<int64_t> send_bytes(4, 8), recv_bytes(4, 8);
    if (comm->rank() == 1) {
      send_bytes[3] = 6;
      send.resize(30);
    }
    try {
      comm->all_to_all_v(send, send_bytes, recv, recv_bytes);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::communication);
      seen[comm->rank()] = e.what();
    }
    expect_all_operations(*comm);  // nobody is out of step afterwards
  });
  for (int64_t r = 0; r < 4; ++r)
    EXPECT_EQ(seen[r], fmt::format("rank {} of 4: rank 1 sends 6 bytes to rank 3, which expects 8 (all_to_all_v)", r));
}

TEST(Mismatch, OfOperationsAndSizesIsRefused) {
  const auto refused = [](std::string_view words, const std::function<void(Communicator&)>& body) {
    testing::expect_error(ErrorKind::communication, {words}, [&] { for_each_rank(2, [&](const Comm& comm) { body(*comm); }); });
  };
  refused("rank 0 is in barrier, rank 1 is in broadcast", [](Communicator& c) {
    Bytes x(3);
    c.rank() == 0 ? c.barrier() : c.broadcast(x, 0);
  });
  refused("rank 0 has 8 bytes, rank 1 has 12 (all_reduce_sum of float)", [](Communicator& c) {
    std::vector<float> x(2 + c.rank());
    c.all_reduce_sum(std::span(x));
  });
  refused("rank 0 has 3 bytes, rank 1 has 4 (all_gather)", [](Communicator& c) {
    Bytes x(3 + c.rank()), y(2 * x.size());
    c.all_gather(x, y);
  });
  refused("rank 0 broadcasts from rank 0, rank 1 from rank 1", [](Communicator& c) {
    Bytes x(3);
    c.broadcast(x, c.rank());
  });
}

TEST(Arguments, ThatMakeNoSenseAreRefused) {
  const auto self = self_communicator();
  Bytes three(3), four(4);
  const std::vector<int64_t> one{3}, two{1, 2}, negative{-3};
  const auto refused = [](std::string_view words, auto&& action) { testing::expect_error(ErrorKind::usage, {words}, action); };
  refused("got 2 send counts, expected one per rank", [&] { self->all_to_all_v(three, two, three, one); });
  refused("got the receive count -3 for rank 0", [&] { self->all_to_all_v(three, one, three, negative); });
  refused("the receive counts of all_to_all_v add up to 3 bytes, the buffer has 4", [&] { self->all_to_all_v(three, one, four, one); });
  refused("needs 3 bytes to receive, the buffer has 4", [&] { self->all_gather(three, four); });
  refused("broadcast from rank 1, expected 0 to 0", [&] { self->broadcast(three, 1); });
  refused("for_each_rank: 0 ranks", [] { for_each_rank(0, [](const Comm&) {}); });
  refused("broadcast from rank 2, expected 0 to 1", [] {
    for_each_rank(2, [](const Comm& comm) {
      Bytes x(1);
      comm->broadcast(x, 2);
    });
  });
}

TEST(ForEachRank, SharesOutTheThreadsOfTheCaller) {
  const int before = at::get_num_threads();
  for (const int64_t ranks : {1, 2, 64})
    for_each_rank(ranks, [&](const Comm&) { EXPECT_EQ(at::get_num_threads(), std::max<int64_t>(1, before / ranks)); });
  EXPECT_EQ(at::get_num_threads(), before);
}

}  // namespace
}  // namespace switchyard
