// Token files: the tokens of both splits of a corpus on disk, mapped rather than read. A cache: it can always be made again
// from the text, and carries the fingerprint of what it was made from.
//
// Layout, little-endian, version 1:
//
//   bytes  0 ..  7   magic "SWTOKENS"
//          8         uint32 version
//         12         uint32 bytes per token: 2, or 4 when an id needs more than 16 bits
//         16         uint64 fingerprint
//         24         uint64 vocab_size
//         32         uint64 tokens, uint64 documents of the training split
//         48         uint64 tokens, uint64 documents of the validation split
//         64         uint64 bytes of the names
//         72         uint64 bytes of the whole file
//   then for each split, every section padded with zeros to a multiple of 8 bytes:
//         ids [tokens]; one bit per token, lowest bit first: is it scored; TokenDocument [documents]
//   then the names: a JSON array of strings.
#pragma once

#include "base/files.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace switchyard::data {

// Part of the format: five 8-byte fields without padding.
struct TokenDocument {
  int64_t first_token = 0;   // in the stream of its split; the document ends where the next one starts
  int64_t text_bytes = 0;    // bytes of its text in this split
  int64_t scored_bytes = 0;  // those of them that belong to scored tokens
  int64_t name = 0;          // index into the names
  int64_t domain = 0;        // likewise
  bool operator==(const TokenDocument&) const = default;
};

// One split while it is being made.
struct TokenSplit {
  std::vector<int32_t> tokens;
  std::vector<bool> scored;
  std::vector<TokenDocument> documents;
};

struct TokenData {
  uint64_t fingerprint = 0;
  int64_t vocab_size = 0;
  TokenSplit train, validation;
  std::vector<std::string> names;
};

void write_token_file(const std::filesystem::path& path, const TokenData& data);

// One split of a mapped file: its documents one after the other. A view: valid while the TokenFile lives.
class TokenStream {
 public:
  TokenStream() = default;
  TokenStream(std::span<const std::byte> ids, int bytes_per_token, std::span<const std::byte> scored_bits,
              std::span<const TokenDocument> documents);

  [[nodiscard]] int64_t size() const { return size_; }
  [[nodiscard]] int32_t token(int64_t i) const {
    return wide_ ? static_cast<const int32_t*>(ids_)[i] : static_cast<const uint16_t*>(ids_)[i];
  }
  // Whether predicting token i from what stands before it counts. Never true for token 0.
  [[nodiscard]] bool scored(int64_t i) const { return (scored_bits_[i / 8] >> (i % 8) & 1) != 0; }

  [[nodiscard]] std::span<const TokenDocument> documents() const { return documents_; }
  // Index of the document that token i belongs to.
  [[nodiscard]] int64_t document_of(int64_t i) const;
  // One past the last token of a document.
  [[nodiscard]] int64_t document_end(int64_t document) const;
  // Number of a document's domain, 0, 1, ... in the alphabetical order of all domains of the corpus: the same in both splits.
  [[nodiscard]] int64_t domain_of(int64_t document) const;
  [[nodiscard]] TokenStream with_domains(std::span<const int64_t> domains) const;

  [[nodiscard]] int64_t scored_tokens() const;
  [[nodiscard]] int64_t scored_bytes() const;

 private:
  const void* ids_ = nullptr;
  const uint8_t* scored_bits_ = nullptr;
  bool wide_ = false;
  int64_t size_ = 0;
  std::span<const TokenDocument> documents_;
  std::span<const int64_t> domains_;
};

class TokenFile {
 public:
  // Checks every field, offset and id. Throws Error{checkpoint} with file, what was found and what was expected.
  explicit TokenFile(const std::filesystem::path& path);

  [[nodiscard]] uint64_t fingerprint() const { return fingerprint_; }
  [[nodiscard]] int64_t vocab_size() const { return vocab_size_; }
  [[nodiscard]] const TokenStream& train() const { return train_; }
  [[nodiscard]] const TokenStream& validation() const { return validation_; }
  // Titles and domains; TokenDocument::name and ::domain point here.
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  // Domains of both splits by their number: indices into the names.
  [[nodiscard]] const std::vector<int64_t>& domains() const { return domains_; }

 private:
  MappedFile file_;
  uint64_t fingerprint_ = 0;
  int64_t vocab_size_ = 0;
  TokenStream train_, validation_;
  std::vector<std::string> names_;
  std::vector<int64_t> domains_;
};

}  // namespace switchyard::data
