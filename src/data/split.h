// Which bytes are trained on and which only measured. Two rules:
//
//   a few works      the last `validation_fraction` of the bytes of EVERY document is validation: floor(fraction * bytes)
//                    bytes, and a few more where that point lies inside a character;
//   many documents   (more than `whole_documents_above`, or conversations, which make no sense cut) whole documents, at
//                    most floor(fraction * documents) but at least one: those whose text has the highest hash. A document
//                    keeps its side when the file is re-ordered, and equal texts fall on the same side.
//
// Every byte of every document is in exactly one piece; no piece is empty.
#pragma once

#include "data/document.h"

#include <span>
#include <string_view>
#include <vector>

namespace switchyard::data {

struct SplitOptions {
  double validation_fraction = 0.1;
  int64_t whole_documents_above = 200;

  template <class V> void fields(V&& v) {
    v("validation_fraction", validation_fraction, "share of the text that is never trained on, in [0, 1)");
    v("whole_documents_above", whole_documents_above, "with more documents than this, whole documents go to one side");
  }
};

struct Piece {
  int64_t document = 0;  // index into the documents
  ByteRange bytes;       // of its text
  bool operator==(const Piece&) const = default;
};

struct Split {
  std::vector<Piece> train, validation;  // in the order of the documents
};

// Throws Error{config} for a fraction outside [0, 1) or a negative number of documents.
[[nodiscard]] Split split_documents(std::span<const Document> documents, const SplitOptions& options);

// The text of each piece, e.g. to train a tokenizer on the training pieces. Views into `documents`.
[[nodiscard]] std::vector<std::string_view> texts_of(std::span<const Document> documents, std::span<const Piece> pieces);

}  // namespace switchyard::data
