// Places of a text where no token can lie across: neighbours that stand together in no token. Vocabularies that were
// learnt on words have one before every word, so that a whole text, given as one word, need not be merged at once.
#pragma once

#include "io/tokenizer/merge_table.h"
#include "io/tokenizer/splitter.h"

namespace switchyard::io {

class TokenCuts final : public Splitter {
 public:
  void add_token(std::string_view token);
  // Any bytes; those that are no UTF-8 are words of their own.
  void split(std::string_view text, std::vector<std::string_view>& words) const override;

 private:
  MergeTable together_;  // pairs of code points
};

}  // namespace switchyard::io
