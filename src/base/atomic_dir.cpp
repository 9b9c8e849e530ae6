#include "base/atomic_dir.h"

#include "base/files.h"
#include "switchyard/error.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace switchyard {
namespace {

namespace fs = std::filesystem;

fs::path with_suffix(const fs::path& target, std::string_view kind) {
  fs::path name = target;
  name += fmt::format(".{}-{}", kind, ::getpid());
  return name;
}

void rename_or_fail(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    fail(ErrorKind::io, "cannot rename '{}' to '{}': {}", from.string(), to.string(), std::strerror(errno));
}

bool exchange(const fs::path& a, const fs::path& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

void sync_tree(const fs::path& dir) {
  std::error_code error;
  for (auto entry = fs::recursive_directory_iterator(dir, error); !error && entry != fs::end(entry); entry.increment(error))
    if (!entry->is_symlink() && (entry->is_regular_file() || entry->is_directory())) sync_path(entry->path());
  if (error) fail(ErrorKind::io, "cannot read folder '{}': {}", dir.string(), error.message());
  sync_path(dir);
}

// The folders `<target>.<kind>-<pid>` beside `target`, with their process numbers.
std::vector<std::pair<fs::path, pid_t>> siblings(const fs::path& target, std::string_view kind) {
  std::vector<std::pair<fs::path, pid_t>> found;
  const std::string prefix = fmt::format("{}.{}-", target.filename().string(), kind);
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(target.parent_path(), error)) {
    const std::string name = entry.path().filename().string();
    if (name.compare(0, prefix.size(), prefix) != 0) continue;
    pid_t pid = 0;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + prefix.size(), end, pid);
    if (parsed.ec == std::errc() && parsed.ptr == end && pid > 0) found.emplace_back(entry.path(), pid);
  }
  return found;
}

bool is_other_live_process(pid_t pid) {
  return pid != ::getpid() && (::kill(pid, 0) == 0 || errno == EPERM);
}

}  // namespace

AtomicDir::AtomicDir(const fs::path& dir, std::string marker)
    : target_(resolve_target(dir)), temporary_(with_suffix(target_, "tmp")), marker_(std::move(marker)) {
  refuse_foreign_folder();
  std::error_code error;
  fs::remove_all(temporary_, error);  // left by a killed process that had this number
  fs::create_directories(temporary_, error);
  if (error) fail(ErrorKind::io, "cannot create folder '{}': {}", temporary_.string(), error.message());
}

AtomicDir::~AtomicDir() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void AtomicDir::refuse_foreign_folder() const {
  std::error_code error;
  if (!fs::exists(target_, error)) return;
  if (!fs::is_directory(target_, error)) fail(ErrorKind::usage, "'{}' is a file, not a folder", target_.string());
  if (marker_.empty() || fs::exists(target_ / marker_, error) || fs::is_empty(target_, error)) return;
  fail(ErrorKind::usage, "folder '{}' holds files but no '{}': it is not replaced; choose another folder or empty it",
       target_.string(), marker_);
}

void AtomicDir::commit(DirSwap how) {
  refuse_foreign_folder();
  sync_tree(temporary_);
  std::error_code ignored;
  if (how == DirSwap::exchange && exchange(temporary_, target_)) {
    committed_ = true;
    sync_path(target_.parent_path());
    fs::remove_all(temporary_, ignored);  // now the old version
    return;
  }
  const fs::path old = with_suffix(target_, "old");
  fs::remove_all(old, ignored);
  const bool replaces = fs::exists(target_, ignored);
  if (replaces) rename_or_fail(target_, old);
  try {
    rename_or_fail(temporary_, target_);
  } catch (const Error&) {
    if (replaces) rename_or_fail(old, target_);
    throw;
  }
  committed_ = true;
  sync_path(target_.parent_path());
  fs::remove_all(old, ignored);
}

void recover_dir(const fs::path& dir) {
  const fs::path target = resolve_target(dir);
  std::error_code ignored;
  if (!fs::exists(target, ignored)) {
    fs::path newest;
    for (const auto& [path, pid] : siblings(target, "old"))
      if (newest.empty() || fs::last_write_time(path, ignored) > fs::last_write_time(newest, ignored)) newest = path;
    if (!newest.empty()) rename_or_fail(newest, target);
  }
  for (const char* kind : {"old", "tmp"})
    for (const auto& [path, pid] : siblings(target, kind))
      if (!is_other_live_process(pid)) fs::remove_all(path, ignored);
}

}  // namespace switchyard
