#include "io/tokenizer/sentencepiece_model.h"

#include "io/tokenizer/utf8.h"
#include "switchyard/error.h"

#include <cmath>
#include <cstring>
#include <unordered_set>

namespace switchyard::io {
namespace {

// One field of a message: https://protobuf.dev/programming-guides/encoding
struct Field {
  uint64_t number = 0;
  uint64_t value = 0;      // of a varint or a fixed number
  std::string_view bytes;  // of a string or a message
  bool has_bytes = false;
};

class Message {
 public:
  Message(std::string_view bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  // Calls visit(field) for all fields in order.
  template <class Visit>
  void for_each(Visit&& visit) {
    while (position_ < bytes_.size()) visit(next());
  }

  [[noreturn]] void damaged(std::string_view what) const {
    fail(ErrorKind::checkpoint, "{}: no sentencepiece model: {} at byte {} of {}", where_, what, position_, bytes_.size());
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (position_ == bytes_.size()) damaged("a number that is cut off");
      const auto byte = static_cast<unsigned char>(bytes_[position_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    damaged("a number of more than 64 bits");
  }

  std::string_view take(uint64_t size) {
    if (size > bytes_.size() - position_) damaged("a field that is longer than the rest");
    const auto taken = bytes_.substr(position_, static_cast<size_t>(size));
    position_ += taken.size();
    return taken;
  }

  uint64_t fixed(size_t size) {
    uint64_t value = 0;
    const std::string_view raw = take(size);
    for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(raw[i]);
    return value;
  }

  Field next() {
    const uint64_t tag = varint();
    Field field{.number = tag >> 3, .value = 0, .bytes = {}, .has_bytes = false};
    if (field.number == 0) damaged("field 0");
    switch (tag & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2:
        field.bytes = take(varint());
        field.has_bytes = true;
        break;
      case 5:
        field.value = fixed(4);
        break;
      default:
        damaged("a wire type that is not known");
    }
    return field;
  }

  std::string_view bytes_;
  std::string where_;
  size_t position_ = 0;
};

float float_of(uint64_t bits) {
  const auto low = static_cast<uint32_t>(bits);
  float value = 0;
  std::memcpy(&value, &low, sizeof value);
  return value;
}

SentencePieceSpec::Piece read_piece(std::string_view bytes, const std::string& where) {
  SentencePieceSpec::Piece piece;
  Message(bytes, where).for_each([&](const Field& field) {
    if (field.number == 1) piece.text = field.bytes;
    if (field.number == 2) piece.score = float_of(field.value);
    if (field.number != 3) return;
    if (field.value < 1 || field.value > 6) fail(ErrorKind::checkpoint, "{}: type {}; expected 1 to 6", where, field.value);
    piece.type = static_cast<SentencePieceSpec::Type>(field.value);
  });
  if (piece.text.empty()) fail(ErrorKind::checkpoint, "{}: the piece has no text", where);
  const Stretch whole = next_stretch(piece.text, 0);
  if (!whole.is_valid || whole.text.size() < piece.text.size()) fail(ErrorKind::checkpoint, "{}: its text is no UTF-8", where);
  if (!std::isfinite(piece.score)) fail(ErrorKind::checkpoint, "{}: the score of '{}' is {}", where, piece.text, piece.score);
  return piece;
}

void read_trainer(std::string_view bytes, const std::string& name, SentencePieceSpec& spec) {
  Message(bytes, name + ": trainer_spec").for_each([&](const Field& field) {
    switch (field.number) {
      case 3:
        if (field.value != 1 && field.value != 2)
          fail(ErrorKind::unsupported, "{}: trainer_spec.model_type {} is not supported; known: 1 (unigram), 2 (bpe)", name, field.value);
        spec.model = static_cast<SentencePieceSpec::Model>(field.value);
        break;
      case 24:
        spec.treat_whitespace_as_suffix = field.value != 0;
        break;
      case 35:
        spec.byte_fallback = field.value != 0;
        break;
      case 44:
        spec.unk_surface = field.bytes;
        break;
      case 46:
        spec.bos_piece = field.bytes;
        break;
      case 47:
        spec.eos_piece = field.bytes;
        break;
      default:
        break;
    }
  });
}

void read_normalizer(std::string_view bytes, const std::string& name, SentencePieceSpec& spec) {
  Message(bytes, name + ": normalizer_spec").for_each([&](const Field& field) {
    switch (field.number) {
      case 2:
        spec.charsmap = field.bytes;
        break;
      case 3:
        spec.add_dummy_prefix = field.value != 0;
        break;
      case 4:
        spec.remove_extra_whitespaces = field.value != 0;
        break;
      case 5:
        spec.escape_whitespaces = field.value != 0;
        break;
      default:
        break;
    }
  });
}

void refuse_denormalizer(std::string_view bytes, const std::string& name) {
  Message(bytes, name + ": denormalizer_spec").for_each([&](const Field& field) {
    if (field.number == 2 && !field.bytes.empty()) fail(ErrorKind::unsupported, "{}: denormalizer_spec is not supported", name);
  });
}

void check_pieces(const SentencePieceSpec& spec, const std::string& name) {
  std::unordered_set<std::string_view> seen;
  int64_t unknown = 0, bytes = 0;
  for (const auto& piece : spec.pieces) {
    if (!seen.insert(piece.text).second) fail(ErrorKind::checkpoint, "{}: piece '{}' is given twice", name, piece.text);
    unknown += piece.type == SentencePieceSpec::Type::unknown;
    bytes += piece.type == SentencePieceSpec::Type::byte;
  }
  if (unknown != 1) fail(ErrorKind::checkpoint, "{}: {} unknown pieces; expected 1", name, unknown);
  if (bytes != (spec.byte_fallback ? 256 : 0))
    fail(ErrorKind::checkpoint, "{}: {} byte pieces; expected {}", name, bytes,
         spec.byte_fallback ? "256, because of byte_fallback" : "none without byte_fallback");
}

}  // namespace

SentencePieceSpec read_sentencepiece_model(std::string_view bytes, const std::string& name) {
  SentencePieceSpec spec;
  Message(bytes, name).for_each([&](const Field& field) {
    if (field.number == 1) spec.pieces.push_back(read_piece(field.bytes, fmt::format("{}: piece {}", name, spec.pieces.size())));
    if (field.number == 2) read_trainer(field.bytes, name, spec);
    if (field.number == 3) read_normalizer(field.bytes, name, spec);
    if (field.number == 5) refuse_denormalizer(field.bytes, name);
  });
  if (spec.pieces.empty()) fail(ErrorKind::checkpoint, "{}: no sentencepiece model: it has no pieces", name);
  check_pieces(spec, name);
  return spec;
}

}  // namespace switchyard::io
