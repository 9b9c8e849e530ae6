// `generate --prompts-file`: many texts at once.
#pragma once

#include "infer/engine.h"
#include "switchyard/checkpoint.h"

#include <string>

namespace switchyard::cli {

// One prompt per line of the file, empty lines left out; prints one JSON object per line, in the order of the prompts.
void generate_many(const Checkpoint& checkpoint, const std::string& prompts_file, const GenerateOptions& options, EngineOptions engine);

}  // namespace switchyard::cli
