#include "steps/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace switchyard {
namespace {

ScheduleOptions schedule_of(const char* kind) {
  ScheduleOptions options;
  options.kind = kind;
  options.warmup_steps = 10;
  options.min_lr_ratio = 0.1;
  return options;
}

TEST(Schedule, WarmUpIsLinearAndEndsAtThePeak) {
  for (const char* kind : {"cosine", "linear", "wsd", "constant"}) {
    for (int64_t s = 0; s < 10; ++s) EXPECT_DOUBLE_EQ(schedule_factor(schedule_of(kind), s, 110), static_cast<double>(s + 1) / 10) << kind;
    EXPECT_DOUBLE_EQ(schedule_factor(schedule_of(kind), 10, 110), 1) << kind;
  }
}

TEST(Schedule, CosineAndLinearEqualTheirClosedForms) {
  for (int64_t s = 10; s <= 110; ++s) {
    const double p = static_cast<double>(s - 10) / 100;
    EXPECT_NEAR(schedule_factor(schedule_of("cosine"), s, 110), 0.1 + 0.45 * (1 + std::cos(std::numbers::pi * p)), 1e-15);
    EXPECT_NEAR(schedule_factor(schedule_of("linear"), s, 110), 1 - 0.9 * p, 1e-15);
  }
  EXPECT_DOUBLE_EQ(schedule_factor(schedule_of("cosine"), 60, 110), 0.55);  // half way: the mean of both ends
  EXPECT_DOUBLE_EQ(schedule_factor(schedule_of("cosine"), 500, 110), 0.1);  // beyond the end
}

TEST(Schedule, WsdIsFlatAndDecaysOverItsLastPart) {
  ScheduleOptions options = schedule_of("wsd");
  options.decay_fraction = 0.2;
  for (int64_t s = 10; s <= 80; ++s) EXPECT_EQ(schedule_factor(options, s, 100), 1);
  EXPECT_DOUBLE_EQ(schedule_factor(options, 85, 100), 1 - 0.9 * 0.25);
  EXPECT_DOUBLE_EQ(schedule_factor(options, 100, 100), 0.1);
  options.decay_shape = "sqrt";
  EXPECT_DOUBLE_EQ(schedule_factor(options, 85, 100), 1 - 0.9 * 0.5);
}

TEST(Schedule, NeedsNoWarmUpAndSurvivesOneThatIsTooLong) {
  ScheduleOptions options = schedule_of("cosine");
  options.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(schedule_factor(options, 0, 100), 1);
  options.warmup_steps = 200;
  EXPECT_DOUBLE_EQ(schedule_factor(options, 99, 100), 0.5);
}

}  // namespace
}  // namespace switchyard
