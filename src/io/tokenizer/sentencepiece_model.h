// The content of a sentencepiece .model file: a protobuf message (ModelProto of sentencepiece_model.proto,
// https://github.com/google/sentencepiece). Only fields that change tokens are kept.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::io {

struct SentencePieceSpec {
  enum class Type { normal = 1, unknown, control, user_defined, unused, byte };  // the numbers of the file
  enum class Model { unigram = 1, bpe };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = Type::normal;
  };

  std::vector<Piece> pieces;  // the id is the position
  Model model = Model::unigram;
  bool byte_fallback = false;
  bool treat_whitespace_as_suffix = false;
  std::string bos_piece = "<s>", eos_piece = "</s>", unk_surface = " \u2047 ";
  // The normalizer.
  std::string charsmap;  // CharsMap
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// Throws Error{checkpoint} that starts with `name` and says where for bytes that are no such message or contradict
// themselves, Error{unsupported} for models of other types (word, char) and for denormalizers.
[[nodiscard]] SentencePieceSpec read_sentencepiece_model(std::string_view bytes, const std::string& name);

}  // namespace switchyard::io
