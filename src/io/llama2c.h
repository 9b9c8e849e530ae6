// Checkpoints of the llama2.c project (version 0 files, github.com/karpathy/llama2.c): seven 32-bit integers, then float32
// matrices stacked over the layers; tokenizer.bin beside it has scores and texts. Read as a Hugging Face folder of family llama.
#pragma once

#include "io/stored_model.h"

namespace switchyard::io {

// A file named *.bin whose size is what its seven integers say.
[[nodiscard]] bool is_llama2c(const std::filesystem::path& path);

// Throws Error{checkpoint} for a file that is none, and for a tokenizer.bin that does not fit.
[[nodiscard]] StoredModel open_llama2c(const std::filesystem::path& path);

}  // namespace switchyard::io
