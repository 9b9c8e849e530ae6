#include "base/files.h"

#include "switchyard/error.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace switchyard {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

[[noreturn]] void fail_io(const char* action, const std::filesystem::path& path, int error) {
  fail(ErrorKind::io, "cannot {} '{}': {}", action, path.string(), std::strerror(error));
}

int open_or_fail(const char* action, const std::filesystem::path& path, int flags) {
  int fd = -1;
  do fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) fail_io(action, path, errno);
  return fd;
}

struct FdCloser {
  int fd;
  ~FdCloser() { ::close(fd); }
};

// Pipes and some special files have nothing to wait for; they answer EINVAL.
void sync_or_fail(int fd, const std::filesystem::path& path) {
  if (::fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP) fail_io("write", path, errno);
}

int flags_of(OutputFile::Mode mode) {
  switch (mode) {
    case OutputFile::Mode::create: return O_TRUNC;
    case OutputFile::Mode::fresh: return O_EXCL;
    case OutputFile::Mode::append: return O_APPEND;
  }
  return O_EXCL;
}

}  // namespace

MappedFile MappedFile::open(const std::filesystem::path& path) {
  const FdCloser file{open_or_fail("open", path, O_RDONLY)};
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) fail_io("read", path, errno);
  if (S_ISDIR(info.st_mode)) fail_io("read", path, EISDIR);
  if (!S_ISREG(info.st_mode)) fail(ErrorKind::io, "cannot map '{}': not a regular file", path.string());

  MappedFile mapped;
  mapped.path_ = path;
  mapped.size_ = static_cast<size_t>(info.st_size);
  if (mapped.size_ == 0) return mapped;
  void* address = ::mmap(nullptr, mapped.size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (address == MAP_FAILED) {
    mapped.size_ = 0;
    fail_io("map", path, errno);
  }
  mapped.data_ = static_cast<const std::byte*>(address);
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

OutputFile::OutputFile(std::filesystem::path path, Mode mode)
    : path_(std::move(path)), buffer_(std::make_unique<std::byte[]>(kBufferBytes)) {
  fd_ = open_or_fail("create", path_, O_WRONLY | O_CREAT | flags_of(mode));
}

OutputFile::~OutputFile() {
  try {
    close();
  } catch (const Error&) {
    // The owner did not ask whether the bytes arrived.
  }
}

void OutputFile::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (bytes.size() > kBufferBytes - used_) flush();
  if (bytes.size() >= kBufferBytes) return write_through(bytes);
  std::memcpy(buffer_.get() + used_, bytes.data(), bytes.size());
  used_ += bytes.size();
}

void OutputFile::flush() {
  // Forget the buffer first: after a failure the same bytes must not go out a second time.
  const size_t count = std::exchange(used_, 0);
  write_through({buffer_.get(), count});
}

void OutputFile::sync() {
  flush();
  sync_or_fail(fd_, path_);
}

void OutputFile::close() {
  if (fd_ < 0) return;
  const auto close_fd = [this] { return ::close(std::exchange(fd_, -1)); };
  try {
    flush();
  } catch (...) {
    close_fd();
    throw;
  }
  // Network file systems report a full disk here.
  if (close_fd() != 0 && errno != EINTR) fail_io("write", path_, errno);
}

void OutputFile::write_through(std::span<const std::byte> bytes) {
  if (fd_ < 0 && !bytes.empty()) fail(ErrorKind::internal, "write to '{}' after close", path_.string());
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), std::min<size_t>(bytes.size(), size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_io("write", path_, errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

AtomicFile::AtomicFile(const std::filesystem::path& path) : target_(resolve_target(path)) {
  temporary_ = target_;
  temporary_ += ".tmp-" + std::to_string(::getpid());
  std::error_code ignored;
  if (std::filesystem::is_directory(target_, ignored)) fail_io("write", path, EISDIR);
  ::unlink(temporary_.c_str());  // left by a killed process that had this number
  file_ = std::make_unique<OutputFile>(temporary_, OutputFile::Mode::fresh);
}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void AtomicFile::commit() {
  file_->sync();
  file_->close();
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_io("replace", target_, errno);
  committed_ = true;
  sync_path(target_.parent_path());
}

std::string read_text_file(const std::filesystem::path& path) {
  const FdCloser file{open_or_fail("open", path, O_RDONLY)};
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) fail_io("read", path, errno);
  std::string text;
  if (S_ISREG(info.st_mode)) text.reserve(static_cast<size_t>(info.st_size) + 1);
  const auto chunk = std::make_unique<char[]>(1 << 16);
  for (;;) {
    const ssize_t count = ::read(file.fd, chunk.get(), 1 << 16);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io("read", path, errno);
    if (count == 0) return text;
    text.append(chunk.get(), static_cast<size_t>(count));
  }
}

void write_file_atomic(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

void sync_path(const std::filesystem::path& path) {
  const FdCloser file{open_or_fail("open", path, O_RDONLY)};
  sync_or_fail(file.fd, path);
}

std::filesystem::path resolve_target(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path target = std::filesystem::weakly_canonical(std::filesystem::absolute(path, error), error);
  if (error || path.empty()) fail(ErrorKind::io, "cannot find '{}': {}", path.string(), error ? error.message() : "empty path");
  return target.has_filename() ? target : target.parent_path();
}

}  // namespace switchyard
