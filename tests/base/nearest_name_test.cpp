#include "base/nearest_name.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(NearestName, FindsTyposAndSwappedLettersButNotStrangers) {
  const std::vector<std::string> known = {"capacity_factor", "top_k", "steps"};
  EXPECT_EQ(nearest_name("capcity_factor", known), "capacity_factor");
  EXPECT_EQ(nearest_name("tpo_k", known), "top_k");
  EXPECT_EQ(nearest_name("step", known), "steps");
  EXPECT_EQ(nearest_name("zebra", known), "");
  EXPECT_EQ(suggestion("zebra", known), "; known: capacity_factor, top_k, steps");
  EXPECT_EQ(suggestion("zebra", {}), "");
}

}  // namespace
}  // namespace switchyard
