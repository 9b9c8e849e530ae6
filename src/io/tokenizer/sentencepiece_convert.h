// A sentencepiece model in the terms of tokenizer.json, for readers that know only those.
#pragma once

#include "io/tokenizer/sentencepiece_tokenizer.h"
#include "io/tokenizer/tokenizer_spec.h"

namespace switchyard::io {

[[nodiscard]] TokenizerSpec convert_sentencepiece(const SentencePieceSpec& spec, SentencePieceEnds ends);

}  // namespace switchyard::io
