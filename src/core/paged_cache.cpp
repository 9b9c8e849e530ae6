#include "core/paged_cache.h"

#include "base/mapped_memory.h"
#include "switchyard/error.h"

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

using kernels::kPageTokens;

int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

}  // namespace

PagedCache::PagedCache(const std::vector<LayerShape>& layers, KvFormat format, int64_t tokens) : format_(format) {
  const int64_t pages = std::max<int64_t>(pages_for(tokens), 1);
  for (const LayerShape& shape : layers) {
    const int64_t page_bytes = kernels::KvPages::page_bytes(format, std::max<int64_t>(shape.kv_heads, 1), shape.head_dim);
    const auto memory = mapped_memory(pages * page_bytes);
    layers_.push_back({{memory.get(), format, shape.kv_heads, shape.head_dim}, memory, shape});
  }
  for (int64_t page = pages - 1; page >= 0; --page) free_.push_back(static_cast<int32_t>(page));
}

int64_t PagedCache::open(int64_t longest) {
  const int64_t pages = pages_for(longest);
  if (pages > static_cast<int64_t>(free_.size())) return -1;
  Sequence& s = sequences_[next_sequence_];
  for (int64_t i = 0; i < pages; ++i) s.pages.push_back(free_.back()), free_.pop_back();
  return next_sequence_++;
}

void PagedCache::close(int64_t sequence) {
  const auto& pages = sequences_.at(sequence).pages;
  free_.insert(free_.end(), pages.rbegin(), pages.rend());
  sequences_.erase(sequence);
}

void PagedCache::begin(const std::vector<PagedChunk>& chunks) {
  chunks_ = chunks;
  parts_.clear();
  std::vector<int64_t> ids, positions, sequence_ids, previous, last;
  for (const PagedChunk& chunk : chunks) {
    const Sequence& s = sequences_.at(chunk.sequence);
    const auto count = static_cast<int64_t>(chunk.ids.size());
    if (count == 0) fail(ErrorKind::internal, "a chunk of a sequence is empty");
    if (s.length + count > static_cast<int64_t>(s.pages.size()) * kPageTokens)
      fail(ErrorKind::usage, "a sequence of {} tokens grows by {}, but was opened for {}", s.length, count, s.pages.size() * kPageTokens);
    parts_.push_back({static_cast<int64_t>(ids.size()), count, s.length, s.pages.data()});
    for (int64_t i = 0; i < count; ++i) {
      previous.push_back(i > 0 ? ids.back() : s.last_id);
      ids.push_back(chunk.ids[static_cast<size_t>(i)]);
      positions.push_back(s.length + i);
      sequence_ids.push_back(chunk.sequence);
    }
    last.push_back(static_cast<int64_t>(ids.size()) - 1);
  }
  input_ids_ = torch::tensor(ids, torch::kInt64).view({1, -1});
  positions_ = torch::tensor(positions, torch::kInt64).view({1, -1});
  sequence_ids_ = torch::tensor(sequence_ids, torch::kInt64);
  previous_ids_ = torch::tensor(previous, torch::kInt64);
  last_rows_ = torch::tensor(last, torch::kInt64);
}

void PagedCache::finish() {
  for (const PagedChunk& chunk : chunks_) {
    Sequence& s = sequences_.at(chunk.sequence);
    s.length += static_cast<int64_t>(chunk.ids.size());
    s.last_id = chunk.ids.back();
  }
  chunks_.clear();
}

torch::Tensor PagedCache::attend(int64_t layer, const torch::Tensor& q_in, const torch::Tensor& k_in, const torch::Tensor& v_in, double scale, int64_t window) {
  const Layer& l = layers_.at(static_cast<size_t>(layer));
  const auto q = q_in.to(torch::kFloat32).contiguous(), k = k_in.to(torch::kFloat32).contiguous(), v = v_in.to(torch::kFloat32).contiguous();
  if (k.size(2) != l.shape.kv_heads || k.size(3) != l.shape.head_dim || !v.sizes().equals(k.sizes()))
    fail(ErrorKind::internal, "keys of {} heads of {} in layer {}, the paged cache has {} of {}", k.size(2), k.size(3), layer, l.shape.kv_heads, l.shape.head_dim);
  const auto parts = static_cast<int64_t>(parts_.size());
  kernels::kv_store(l.pages, parts_.data(), parts, k.data_ptr<float>(), v.data_ptr<float>());
  auto out = torch::empty_like(q);
  const double s = scale > 0 ? scale : 1 / std::sqrt(static_cast<double>(q.size(3)));
  kernels::paged_attention(l.pages, parts_.data(), parts, q.size(2), q.data_ptr<float>(), static_cast<float>(s), window, out.data_ptr<float>());
  return out;
}

}  // namespace switchyard
