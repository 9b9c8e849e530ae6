// Trained experts become partly the same: in rounds, the entries whose choice between experts matters least to the loss on a text turn
// static (experts/partial.h). Round r of R leaves the share keep^(r / R) dynamic. Source: PAD-Net, arXiv:2211.05528 section 3.3.
#pragma once

#include "eval/visit_windows.h"
#include "switchyard/language_model.h"

#include <memory>

namespace switchyard {

struct PartitionOptions {
  double keep = 0.5;   // share of dynamic entries at the end
  int64_t rounds = 4;
  WindowOptions windows = {.max_tokens = 2000};  // of the text, in each round
};

struct PartitionReport {
  int64_t entries = 0, dynamic = 0;     // of the matrices of one expert, over all layers
  int64_t stored = 0, stored_before = 0;  // entries to keep: dynamic ones per expert, static ones once
};

// A model of the same weights whose experts are of the kind `partial`, partitioned; that of a model which has them already goes on from its
// masks. Throws Error{unsupported} for a model without experts or with experts that are no feed-forward networks, Error{usage} for options
// and texts that make no sense.
[[nodiscard]] std::shared_ptr<LanguageModel> partitioned(LanguageModel& model, const data::TokenStream& text, const PartitionOptions& options, PartitionReport* report = nullptr);

}  // namespace switchyard
