// Text to token ids and back. Torch-free: tokenizer.json files come from strangers, so the readers are fuzzed.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ids of `text` (any bytes; invalid UTF-8 survives a round trip where the vocabulary has all bytes). With
  // `add_template`, the post-processor of the file adds its BOS / EOS. Special tokens spelt in the text become their ids.
  [[nodiscard]] virtual std::vector<int32_t> encode(std::string_view text, bool add_template = false) const = 0;

  // Bytes of `ids`; `skip_special` leaves special tokens out. Throws Error{usage} for an id outside the vocabulary.
  [[nodiscard]] virtual std::string decode(std::span<const int32_t> ids, bool skip_special = true) const = 0;

  // One past the largest id.
  [[nodiscard]] virtual int64_t vocab_size() const = 0;

  [[nodiscard]] virtual std::optional<int32_t> token_to_id(std::string_view token) const = 0;

  // The end-of-document token: separates packed documents and ends generation. Empty when the vocabulary has none. It is
  // the one that the file's template puts behind the text, otherwise the special token with a usual name.
  [[nodiscard]] virtual std::optional<int32_t> eos_id() const = 0;
  [[nodiscard]] virtual std::optional<int32_t> bos_id() const = 0;

  // The content of a tokenizer.json (Hugging Face tokenizers format) that load_tokenizer reads back to an equal object.
  // What the format has no words for stands in keys "switchyard_..." of the model, which other readers skip.
  [[nodiscard]] virtual nlohmann::ordered_json to_json() const = 0;
};

// 256 byte tokens and the special token "<|endoftext|>" (id 256).
[[nodiscard]] std::unique_ptr<Tokenizer> make_byte_tokenizer();

// Reads a tokenizer.json, a sentencepiece .model or a .tiktoken file, or the one in a folder (find_tokenizer_file). The
// split expression and special tokens of a .tiktoken file belong to its `encoding` ("cl100k_base"); empty: the one that
// the file is named after. docs/tokenizers.md has the list. Throws Error{checkpoint} that names the file and key,
// Error{unsupported} for a component or encoding that this build does not know, Error{io} when there is no such file.
[[nodiscard]] std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path, const std::string& encoding = "");

// The file of a folder that load_tokenizer reads: tokenizer.json, tokenizer.model, spiece.model, or its only .tiktoken file.
[[nodiscard]] std::optional<std::filesystem::path> find_tokenizer_file(const std::filesystem::path& folder);

// The content of a tokenizer.json.
[[nodiscard]] std::unique_ptr<Tokenizer> parse_tokenizer(std::string_view json, const std::string& name_for_errors);

// Learns a byte-level BPE of `vocab_size` tokens (256 bytes + "<|endoftext|>" + merges) from `texts`. The result depends
// on the texts only: equal pair counts are resolved by the lower pair of ids. It is smaller when no pair of tokens comes
// twice any more. Throws Error{usage} for vocab_size < 257. `progress(done, total)` may be empty.
[[nodiscard]] std::unique_ptr<Tokenizer> train_bpe(std::span<const std::string_view> texts, int64_t vocab_size,
                                                   const std::function<void(int64_t, int64_t)>& progress = {});

}  // namespace switchyard
