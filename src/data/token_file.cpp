#include "data/token_file.h"

#include "switchyard/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <type_traits>

namespace switchyard::data {
namespace {

static_assert(std::endian::native == std::endian::little, "the mapping is read as it lies");
static_assert(sizeof(TokenDocument) == 40 && std::is_trivially_copyable_v<TokenDocument>);

constexpr std::string_view kMagic = "SWTOKENS";
constexpr uint32_t kVersion = 1;
constexpr int64_t kWideVocab = 1 << 16;

struct SplitCounts {
  uint64_t tokens = 0, documents = 0;
};

struct Header {
  char magic[8] = {};
  uint32_t version = kVersion;
  uint32_t bytes_per_token = 2;
  uint64_t fingerprint = 0;
  uint64_t vocab_size = 0;
  SplitCounts splits[2];  // train, validation
  uint64_t names_bytes = 0;
  uint64_t file_bytes = 0;
};
static_assert(sizeof(Header) == 80 && std::is_trivially_copyable_v<Header>);

constexpr uint64_t padded(uint64_t bytes) { return (bytes + 7) / 8 * 8; }

// Sizes of the three sections of a split, without padding.
struct SectionBytes {
  uint64_t ids, scored, documents;
  SectionBytes(const SplitCounts& split, uint64_t bytes_per_token)
      : ids(split.tokens * bytes_per_token), scored((split.tokens + 7) / 8), documents(split.documents * sizeof(TokenDocument)) {}
  [[nodiscard]] uint64_t total() const { return padded(ids) + padded(scored) + padded(documents); }
};

uint64_t expected_file_bytes(const Header& header) {
  uint64_t bytes = sizeof(Header) + header.names_bytes;
  for (const auto& split : header.splits) bytes += SectionBytes(split, header.bytes_per_token).total();
  return bytes;
}

// ---- writing ----

void write_section(Sink& sink, std::span<const std::byte> bytes) {
  constexpr std::byte kZeros[8] = {};
  sink.write(bytes);
  sink.write(std::span(kZeros, padded(bytes.size()) - bytes.size()));
}

template <class Id> void write_ids(Sink& sink, const std::vector<int32_t>& tokens) {
  const std::vector<Id> ids(tokens.begin(), tokens.end());
  write_section(sink, std::as_bytes(std::span(ids)));
}

void write_split(Sink& sink, const TokenSplit& split, bool wide) {
  if (wide) write_ids<int32_t>(sink, split.tokens);
  else write_ids<uint16_t>(sink, split.tokens);
  std::vector<uint8_t> bits((split.scored.size() + 7) / 8, 0);
  for (size_t i = 0; i < split.scored.size(); ++i)
    if (split.scored[i]) bits[i / 8] = static_cast<uint8_t>(bits[i / 8] | 1u << (i % 8));
  write_section(sink, std::as_bytes(std::span(bits)));
  write_section(sink, std::as_bytes(std::span(split.documents)));
}

// ---- reading ----

Header read_header(std::span<const std::byte> bytes, const std::string& file) {
  if (bytes.size() < sizeof(Header))
    fail(ErrorKind::checkpoint, "{}: {} bytes; a token file has a header of {} bytes", file, bytes.size(), sizeof(Header));
  Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::string_view(header.magic, sizeof header.magic) != kMagic)
    fail(ErrorKind::checkpoint, "{}: not a token file (its first 8 bytes are not '{}')", file, kMagic);
  if (header.version != kVersion)
    fail(ErrorKind::checkpoint, "{}: version {}; this build reads version {}", file, header.version, kVersion);
  if (header.vocab_size == 0 || header.vocab_size > uint64_t{1} << 31)
    fail(ErrorKind::checkpoint, "{}: vocab_size = {}; expected 1 to 2^31", file, header.vocab_size);
  const uint32_t width = header.vocab_size > kWideVocab ? 4 : 2;
  if (header.bytes_per_token != width)
    fail(ErrorKind::checkpoint, "{}: {} bytes per token; expected {} for vocab_size = {}", file, header.bytes_per_token, width,
         header.vocab_size);

  const auto size = static_cast<uint64_t>(bytes.size());
  if (header.file_bytes != size)
    fail(ErrorKind::checkpoint, "{}: {} bytes; its header announces {} (the file is truncated or damaged)", file, size, header.file_bytes);
  // Counts beyond the size are refused one by one, so that the sum below cannot overflow.
  const std::pair<const char*, uint64_t> counts[] = {{"training tokens", header.splits[0].tokens},
                                                     {"training documents", header.splits[0].documents},
                                                     {"validation tokens", header.splits[1].tokens},
                                                     {"validation documents", header.splits[1].documents},
                                                     {"bytes of names", header.names_bytes}};
  for (const auto& [what, count] : counts)
    if (count > size) fail(ErrorKind::checkpoint, "{}: header says {} {}; the file has only {} bytes", file, count, what, size);
  if (expected_file_bytes(header) != size)
    fail(ErrorKind::checkpoint, "{}: {} bytes; the counts in its header need {}", file, size, expected_file_bytes(header));
  return header;
}

// Domains of both splits in the order of their names.
std::vector<int64_t> domains_of(const TokenStream& train, const TokenStream& validation, const std::vector<std::string>& names) {
  std::set<std::pair<std::string, int64_t>> sorted;
  for (const TokenStream* stream : {&train, &validation})
    for (const TokenDocument& document : stream->documents()) sorted.emplace(names[static_cast<size_t>(document.domain)], document.domain);
  std::vector<int64_t> out;
  for (const auto& [name, domain] : sorted) out.push_back(domain);
  return out;
}

// Takes sections off the front of the file.
class Sections {
 public:
  explicit Sections(std::span<const std::byte> rest) : rest_(rest) {}
  std::span<const std::byte> take(uint64_t bytes) {
    const auto section = rest_.first(bytes);
    rest_ = rest_.subspan(std::min<uint64_t>(padded(bytes), rest_.size()));
    return section;
  }

 private:
  std::span<const std::byte> rest_;
};

TokenStream take_split(Sections& sections, const SplitCounts& counts, uint32_t bytes_per_token) {
  const SectionBytes bytes(counts, bytes_per_token);
  const auto ids = sections.take(bytes.ids);
  const auto scored = sections.take(bytes.scored);
  const auto documents = sections.take(bytes.documents);
  return TokenStream(ids, static_cast<int>(bytes_per_token), scored,
                     {reinterpret_cast<const TokenDocument*>(documents.data()), static_cast<size_t>(counts.documents)});
}

void check_documents(const TokenStream& stream, int64_t names, const std::string& where) {
  const auto documents = stream.documents();
  if (documents.empty() != (stream.size() == 0))
    fail(ErrorKind::checkpoint, "{}: {} tokens in {} documents", where, stream.size(), documents.size());
  int64_t least = 0;
  int64_t bytes_left = std::numeric_limits<int64_t>::max();  // keeps sums over the documents inside 64 bits
  for (size_t i = 0; i < documents.size(); ++i) {
    const TokenDocument& d = documents[i];
    const bool in_order = i == 0 ? d.first_token == 0 : d.first_token >= least && d.first_token < stream.size();
    if (!in_order)
      fail(ErrorKind::checkpoint, "{}: document {} starts at token {}; expected {}", where, i, d.first_token,
           i == 0 ? std::string("0") : fmt::format("{} to {}", least, stream.size() - 1));
    least = d.first_token + 1;
    if (d.text_bytes < 0 || d.text_bytes > bytes_left || d.scored_bytes < 0 || d.scored_bytes > d.text_bytes)
      fail(ErrorKind::checkpoint, "{}: document {} has {} bytes, {} of them scored", where, i, d.text_bytes, d.scored_bytes);
    bytes_left -= d.text_bytes;
    if (d.name < 0 || d.name >= names || d.domain < 0 || d.domain >= names)
      fail(ErrorKind::checkpoint, "{}: document {} points at names {} and {}; there are {}", where, i, d.name, d.domain, names);
  }
}

void check_stream(const TokenStream& stream, int64_t vocab_size, int64_t names, const std::string& where) {
  check_documents(stream, names, where);
  for (int64_t i = 0; i < stream.size(); ++i)
    if (stream.token(i) < 0 || stream.token(i) >= vocab_size)
      fail(ErrorKind::checkpoint, "{}: token {} has id {}; expected 0 to {} (vocab_size = {})", where, i, stream.token(i),
           vocab_size - 1, vocab_size);
  if (stream.size() > 0 && stream.scored(0))
    fail(ErrorKind::checkpoint, "{}: token 0 is marked as scored; nothing stands before it", where);
}

std::vector<std::string> parse_names(std::span<const std::byte> bytes, const std::string& file) {
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  const auto json = nlohmann::json::parse(text, text + bytes.size(), nullptr, /*allow_exceptions=*/false);
  const auto is_string = [](const auto& value) { return value.is_string(); };
  if (!json.is_array() || !std::all_of(json.begin(), json.end(), is_string))
    fail(ErrorKind::checkpoint, "{}: the names at the end are no JSON array of strings", file);
  return json.get<std::vector<std::string>>();
}

}  // namespace

void write_token_file(const std::filesystem::path& path, const TokenData& data) {
  // File names need not be UTF-8; JSON must be.
  const std::string names = nlohmann::json(data.names).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const bool wide = data.vocab_size > kWideVocab;
  Header header;
  std::copy(kMagic.begin(), kMagic.end(), header.magic);
  header.bytes_per_token = wide ? 4 : 2;
  header.fingerprint = data.fingerprint;
  header.vocab_size = static_cast<uint64_t>(data.vocab_size);
  header.splits[0] = {data.train.tokens.size(), data.train.documents.size()};
  header.splits[1] = {data.validation.tokens.size(), data.validation.documents.size()};
  header.names_bytes = names.size();
  header.file_bytes = expected_file_bytes(header);

  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&header, 1)));
  write_split(file, data.train, wide);
  write_split(file, data.validation, wide);
  file.write(names);
  file.commit();
}

TokenStream::TokenStream(std::span<const std::byte> ids, int bytes_per_token, std::span<const std::byte> scored_bits,
                         std::span<const TokenDocument> documents)
    : ids_(ids.data()),
      scored_bits_(reinterpret_cast<const uint8_t*>(scored_bits.data())),
      wide_(bytes_per_token == 4),
      size_(static_cast<int64_t>(ids.size()) / bytes_per_token),
      documents_(documents) {}

int64_t TokenStream::document_of(int64_t i) const {
  const auto after = std::upper_bound(documents_.begin(), documents_.end(), i,
                                      [](int64_t token, const TokenDocument& document) { return token < document.first_token; });
  return after - documents_.begin() - 1;
}

int64_t TokenStream::document_end(int64_t document) const {
  const auto next = static_cast<size_t>(document) + 1;
  return next < documents_.size() ? documents_[next].first_token : size_;
}

int64_t TokenStream::domain_of(int64_t document) const {
  const int64_t domain = documents_[static_cast<size_t>(document)].domain;
  const auto found = std::find(domains_.begin(), domains_.end(), domain);
  return found == domains_.end() ? 0 : found - domains_.begin();
}

TokenStream TokenStream::with_domains(std::span<const int64_t> domains) const {
  TokenStream out = *this;
  out.domains_ = domains;
  return out;
}

int64_t TokenStream::scored_tokens() const {
  int64_t count = 0;
  for (int64_t i = 0; i < size_; ++i) count += scored(i) ? 1 : 0;
  return count;
}

int64_t TokenStream::scored_bytes() const {
  int64_t bytes = 0;
  for (const TokenDocument& document : documents_) bytes += document.scored_bytes;
  return bytes;
}

TokenFile::TokenFile(const std::filesystem::path& path) : file_(MappedFile::open(path)) {
  const std::string name = path.string();
  const Header header = read_header(file_.bytes(), name);
  fingerprint_ = header.fingerprint;
  vocab_size_ = static_cast<int64_t>(header.vocab_size);
  Sections sections(file_.bytes().subspan(sizeof(Header)));
  train_ = take_split(sections, header.splits[0], header.bytes_per_token);
  validation_ = take_split(sections, header.splits[1], header.bytes_per_token);
  names_ = parse_names(sections.take(header.names_bytes), name);
  check_stream(train_, vocab_size_, static_cast<int64_t>(names_.size()), name + ": training split");
  check_stream(validation_, vocab_size_, static_cast<int64_t>(names_.size()), name + ": validation split");
  domains_ = domains_of(train_, validation_, names_);
  train_ = train_.with_domains(domains_);
  validation_ = validation_.with_domains(domains_);
}

}  // namespace switchyard::data
