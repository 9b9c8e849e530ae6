#include "data/split.h"

#include "data/fingerprint.h"
#include "data/utf8.h"
#include "switchyard/error.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace switchyard::data {
namespace {

int64_t share_of(int64_t total, double fraction) { return static_cast<int64_t>(std::floor(static_cast<double>(total) * fraction)); }

Split split_every_document(std::span<const Document> documents, double fraction) {
  Split split;
  for (int64_t i = 0; i < static_cast<int64_t>(documents.size()); ++i) {
    const std::string& text = documents[static_cast<size_t>(i)].text;
    const auto size = static_cast<int64_t>(text.size());
    const auto cut = static_cast<int64_t>(character_boundary(text, static_cast<size_t>(size - share_of(size, fraction))));
    if (cut > 0) split.train.push_back({i, {0, cut}});
    if (cut < size) split.validation.push_back({i, {cut, size}});
  }
  return split;
}

// true for the documents of the validation side.
std::vector<bool> choose_whole_documents(std::span<const Document> documents, double fraction) {
  const auto count = static_cast<int64_t>(documents.size());
  std::vector<bool> chosen(documents.size(), false);
  if (fraction == 0 || count < 2) return chosen;

  std::vector<std::pair<uint64_t, size_t>> by_hash;
  for (size_t i = 0; i < documents.size(); ++i) by_hash.emplace_back(Fingerprint().add(documents[i].text).value(), i);
  std::sort(by_hash.rbegin(), by_hash.rend());

  // Equal texts move together; a group that does not fit any more stays in training.
  int64_t room = std::max<int64_t>(1, share_of(count, fraction));
  for (size_t first = 0, last = 0; first < by_hash.size() && room > 0; first = last) {
    while (last < by_hash.size() && by_hash[last].first == by_hash[first].first) ++last;
    const auto group = static_cast<int64_t>(last - first);
    if (group > room) continue;
    room -= group;
    for (size_t i = first; i < last; ++i) chosen[by_hash[i].second] = true;
  }
  return chosen;
}

Split split_whole_documents(std::span<const Document> documents, double fraction) {
  const auto chosen = choose_whole_documents(documents, fraction);
  Split split;
  for (size_t i = 0; i < documents.size(); ++i)
    (chosen[i] ? split.validation : split.train).push_back({static_cast<int64_t>(i), {0, static_cast<int64_t>(documents[i].text.size())}});
  return split;
}

}  // namespace

Split split_documents(std::span<const Document> documents, const SplitOptions& options) {
  const double fraction = options.validation_fraction;
  if (!(fraction >= 0 && fraction < 1)) fail(ErrorKind::config, "validation_fraction = {}; expected at least 0 and less than 1", fraction);
  if (options.whole_documents_above < 0)
    fail(ErrorKind::config, "whole_documents_above = {}; expected 0 or more", options.whole_documents_above);
  const bool has_conversations = std::any_of(documents.begin(), documents.end(), [](const Document& d) { return d.scored.has_value(); });
  const bool whole = has_conversations || static_cast<int64_t>(documents.size()) > options.whole_documents_above;
  return whole ? split_whole_documents(documents, fraction) : split_every_document(documents, fraction);
}

std::vector<std::string_view> texts_of(std::span<const Document> documents, std::span<const Piece> pieces) {
  std::vector<std::string_view> texts;
  for (const Piece& piece : pieces)
    texts.push_back(std::string_view(documents[static_cast<size_t>(piece.document)].text)
                        .substr(static_cast<size_t>(piece.bytes.begin), static_cast<size_t>(piece.bytes.size())));
  return texts;
}

}  // namespace switchyard::data
