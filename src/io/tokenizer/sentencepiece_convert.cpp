#include "io/tokenizer/sentencepiece_convert.h"

#include "io/tokenizer/base64.h"
#include "io/tokenizer/text_map.h"

#include <algorithm>
#include <tuple>

namespace switchyard::io {
namespace {

using Json = nlohmann::json;
using Type = SentencePieceSpec::Type;

// Every pair of pieces whose text is a piece, the best score first.
BpeSpec bpe_model(const SentencePieceSpec& spec) {
  BpeSpec out;
  out.fuse_unk = true;
  out.byte_fallback = spec.byte_fallback;
  TextMap ids;
  for (size_t i = 0; i < spec.pieces.size(); ++i) {
    const auto& piece = spec.pieces[i];
    out.vocab[piece.text] = static_cast<int32_t>(i);
    if (piece.type == Type::unknown) out.unk_token = piece.text;
    if (is_text_piece(piece)) ids.set(piece.text, static_cast<int32_t>(i));
  }
  std::vector<std::tuple<float, int32_t, size_t>> cuts;  // minus the score, id, place
  for (size_t i = 0; i < spec.pieces.size(); ++i) {
    const std::string_view text = spec.pieces[i].text;
    if (!is_text_piece(spec.pieces[i])) continue;
    for (size_t cut = 1; cut < text.size(); ++cut)
      if (ids.get(text.substr(0, cut)) && ids.get(text.substr(cut))) cuts.emplace_back(-spec.pieces[i].score, static_cast<int32_t>(i), cut);
  }
  std::sort(cuts.begin(), cuts.end());
  for (const auto& [score, id, cut] : cuts) {
    const std::string& text = spec.pieces[static_cast<size_t>(id)].text;
    out.merges.emplace_back(text.substr(0, cut), text.substr(cut));
  }
  return out;
}

UnigramSpec unigram_model(const SentencePieceSpec& spec) {
  UnigramSpec out{.pieces = {}, .unk_id = std::nullopt, .byte_fallback = spec.byte_fallback};
  for (const auto& piece : spec.pieces) {
    if (piece.type == Type::unknown) out.unk_id = static_cast<int32_t>(out.pieces.size());
    out.pieces.emplace_back(piece.text, static_cast<double>(piece.score));
  }
  return out;
}

Json replace(const char* kind, const char* pattern, std::string_view content) {
  return {{"type", "Replace"}, {"pattern", {{kind, pattern}}}, {"content", content}};
}

Json normalizer(const SentencePieceSpec& spec) {
  Json steps = Json::array();
  if (!spec.charsmap.empty()) steps.push_back(Json{{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(spec.charsmap)}});
  if (spec.remove_extra_whitespaces) {
    steps.push_back(replace("Regex", "^ +| +$", ""));
    steps.push_back(replace("Regex", " {2,}", " "));
  }
  if (spec.add_dummy_prefix && !spec.treat_whitespace_as_suffix) steps.push_back(Json{{"type", "Prepend"}, {"prepend", kMetaSpace}});
  if (spec.escape_whitespaces) steps.push_back(replace("String", " ", kMetaSpace));
  if (steps.empty()) return nullptr;
  return {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
}

Json decoder(const SentencePieceSpec& spec) {
  Json steps = Json::array({replace("String", kMetaSpace.data(), " "), Json{{"type", "ByteFallback"}}, Json{{"type", "Fuse"}}});
  if (spec.add_dummy_prefix) steps.push_back(Json{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", std::move(steps)}};
}

}  // namespace

TokenizerSpec convert_sentencepiece(const SentencePieceSpec& spec, SentencePieceEnds ends) {
  TokenizerSpec out;
  TokenTemplate around;
  for (size_t i = 0; i < spec.pieces.size(); ++i) {
    const auto& piece = spec.pieces[i];
    const auto id = static_cast<int32_t>(i);
    const bool is_special = piece.type == Type::control || piece.type == Type::unknown;
    if (is_special || piece.type == Type::user_defined) out.added_tokens.push_back({.id = id, .content = piece.text, .special = is_special});
    if (ends.add_bos && piece.text == spec.bos_piece) around.prefix.push_back({piece.text, id});
    if (ends.add_eos && piece.text == spec.eos_piece) around.suffix.push_back({piece.text, id});
  }
  out.normalizer = normalizer(spec);
  out.post_processor = token_template_json(around);
  out.decoder = decoder(spec);
  if (spec.model == SentencePieceSpec::Model::bpe) {
    out.model = bpe_model(spec);
  } else {
    out.model = unigram_model(spec);
  }
  return out;
}

}  // namespace switchyard::io
