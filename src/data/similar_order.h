// An order of documents in which neighbours are alike, so that a window over a border goes on with a related text:
// similarity-based batching (Lory, arXiv:2405.03133 section 3.2; in-context pretraining, arXiv:2310.10638).
//
// A document is its counts of words (runs of letters, lower case) hashed into 1024 places, each count c as ln(1 + c),
// normalised to length 1. The path begins with the first document and goes on to the most similar one that is left; of equally
// similar ones the earlier. No learned embedding: the order is a function of the texts alone.
#pragma once

#include "data/document.h"

#include <span>
#include <string>
#include <vector>

namespace switchyard::data {

// Cosine of the word counts of two texts, 0 to 1.
[[nodiscard]] double similarity(const std::string& a, const std::string& b);

// Indices into `documents`, each once. The work grows with the square of their number: Error{config} for more than 20000.
[[nodiscard]] std::vector<int64_t> similar_order(std::span<const Document> documents);

// The documents as `order` says: "given" or "similar".
[[nodiscard]] std::vector<Document> in_order(std::vector<Document> documents, const std::string& order);

}  // namespace switchyard::data
