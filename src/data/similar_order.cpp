#include "data/similar_order.h"

#include "data/fingerprint.h"
#include "switchyard/error.h"

#include <cmath>

namespace switchyard::data {
namespace {

constexpr size_t kPlaces = 1024;
constexpr int64_t kMostDocuments = 20'000;

std::vector<float> words_of(const std::string& text) {
  std::vector<float> counts(kPlaces, 0.0f);
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) ++counts[Fingerprint().add(word).value() % kPlaces];
    word.clear();
  };
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || (byte >= 'a' && byte <= 'z')) word += c;  // bytes of other alphabets count as letters
    else if (byte >= 'A' && byte <= 'Z') word += static_cast<char>(c - 'A' + 'a');
    else end_word();
  }
  end_word();
  double square = 0;
  for (float& count : counts) {
    count = std::log1p(count);
    square += static_cast<double>(count) * count;
  }
  for (float& count : counts) count = square > 0 ? static_cast<float>(count / std::sqrt(square)) : 0.0f;
  return counts;
}

float product(const std::vector<float>& a, const std::vector<float>& b) {
  float sum = 0;
  for (size_t i = 0; i < kPlaces; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

double similarity(const std::string& a, const std::string& b) { return product(words_of(a), words_of(b)); }

std::vector<int64_t> similar_order(std::span<const Document> documents) {
  const auto n = static_cast<int64_t>(documents.size());
  if (n > kMostDocuments) fail(ErrorKind::config, "data.order = \"similar\" compares every document with every other, and there are {}; at most {}", n, kMostDocuments);
  std::vector<std::vector<float>> words;
  for (const Document& document : documents) words.push_back(words_of(document.text));
  std::vector<int64_t> path, left;
  for (int64_t i = 0; i < n; ++i) left.push_back(i);
  for (size_t next = 0; !left.empty();) {
    path.push_back(left[next]);
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(next));  // keeps the order: ties go to the earlier document
    const auto& here = words[static_cast<size_t>(path.back())];
    float best = -1;
    for (size_t i = 0; i < left.size(); ++i)
      if (const float value = product(here, words[static_cast<size_t>(left[i])]); value > best) best = value, next = i;
  }
  return path;
}

std::vector<Document> in_order(std::vector<Document> documents, const std::string& order) {
  if (order == "given") return documents;
  if (order != "similar") fail(ErrorKind::config, "data.order = \"{}\"; expected given, similar", order);
  std::vector<Document> out;
  for (const int64_t i : similar_order(documents)) out.push_back(std::move(documents[static_cast<size_t>(i)]));
  return out;
}

}  // namespace switchyard::data
