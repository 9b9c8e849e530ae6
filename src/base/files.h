// Files: read-only mappings, buffered writing whose failures are seen, and replacement of a file in one step. Every
// refusal of the operating system becomes Error{io} with the path and the system's reason.
//
// Not here: replacing a folder of files (base/atomic_dir.h); protection from a file that another process truncates
// while it is mapped (the system then sends SIGBUS).
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace switchyard {

// Somewhere that bytes can be written to.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void write(std::span<const std::byte> bytes) = 0;
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
};

// The bytes of a regular file, read-only, for as long as the object lives.
class MappedFile {
 public:
  [[nodiscard]] static MappedFile open(const std::filesystem::path& path);

  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A file open for writing, with a buffer. The destructor writes what it can and stays silent: call close() to learn
// whether everything arrived.
class OutputFile final : public Sink {
 public:
  enum class Mode {
    create,  // a new file, or an old one emptied
    fresh,   // a new file; one that exists is an error
    append,  // behind what is there
  };

  OutputFile(std::filesystem::path path, Mode mode);
  ~OutputFile() override;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  using Sink::write;
  void write(std::span<const std::byte> bytes) override;
  void flush();  // hands the buffer to the system
  void sync();   // flush, and waits until the storage has the bytes
  void close();  // flush and close; a second call does nothing

 private:
  void write_through(std::span<const std::byte> bytes);

  std::filesystem::path path_;
  std::unique_ptr<std::byte[]> buffer_;
  size_t used_ = 0;
  int fd_ = -1;
};

// Replaces a file in one step: readers see the whole old content or the whole new one, also after a crash. The bytes
// go to `<path>.tmp-<pid>` until commit(); without commit() the old file stays and the temporary one is removed.
class AtomicFile final : public Sink {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile() override;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  using Sink::write;
  void write(std::span<const std::byte> bytes) override { file_->write(bytes); }
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  std::unique_ptr<OutputFile> file_;
  bool committed_ = false;
};

// The whole content of a file; also of pipes and of /proc, which cannot be mapped.
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path);

void write_file_atomic(const std::filesystem::path& path, std::string_view content);

// Waits until the storage has the file (or the list of names of the folder) at `path`.
void sync_path(const std::filesystem::path& path);

// `path` absolute, symbolic links followed, without a trailing slash: what must be renamed to replace it.
[[nodiscard]] std::filesystem::path resolve_target(const std::filesystem::path& path);

}  // namespace switchyard
