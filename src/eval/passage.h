// The routing of a short text, token by token.
#pragma once

#include "eval/trace_run.h"

namespace switchyard {

// {"tokens": [...], "routing": [per MoE layer {"experts": [[...] per token], "weights": ...}]}. Takes the beginning of the
// first document of every domain in equal parts, each as a sequence of its own of at most seq_len tokens.
[[nodiscard]] nlohmann::ordered_json trace_passage(LanguageModel& model, const Tokenizer& tokenizer, const data::TokenStream& text,
                                                   const TraceOptions& options);

}  // namespace switchyard
