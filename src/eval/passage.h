// The routing of a short text, token by token.
#pragma once

#include "eval/trace_run.h"

namespace switchyard {

// {"tokens": [...], "excerpts": [{"token": where it begins, "name"}], "routing": [per MoE layer {"experts": [[...] per token],
// "weights": ...}]}. Takes the beginning of the first validation document of every domain in equal parts, each as a sequence of
// its own of at most seq_len tokens. Special tokens are empty texts.
[[nodiscard]] nlohmann::ordered_json trace_passage(LanguageModel& model, const Tokenizer& tokenizer, const data::TokenFile& tokens,
                                                   const TraceOptions& options);

}  // namespace switchyard
