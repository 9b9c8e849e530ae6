// Replaces a folder of files in one step, so that a kill at any moment leaves one complete version (checkpoints).
#pragma once

#include <filesystem>
#include <string>

namespace switchyard {

enum class DirSwap {
  exchange,     // both names change in one system call; falls back to two_renames where the file system cannot
  two_renames,  // old away, new in: a crash in between is repaired by recover_dir
};

// Files written below path() become the folder `dir` at commit(). Until then they lie in `<dir>.tmp-<pid>`, and without
// commit() they are removed. Parents of `dir` are created.
class AtomicDir {
 public:
  // `marker`: name of a file that every earlier version holds. A folder with content but without that file was not
  // written by us and is refused with Error{usage} rather than replaced. Empty: any folder is replaced.
  explicit AtomicDir(const std::filesystem::path& dir, std::string marker = {});
  ~AtomicDir();
  AtomicDir(const AtomicDir&) = delete;
  AtomicDir& operator=(const AtomicDir&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return temporary_; }

  // Everything that the folder `dir` held before is gone afterwards.
  void commit(DirSwap how = DirSwap::exchange);

 private:
  void refuse_foreign_folder() const;

  std::filesystem::path target_, temporary_;
  std::string marker_;
  bool committed_ = false;
};

// Repairs what a killed commit left: brings `<dir>.old-*` back when `dir` is missing, and removes the leftovers of
// processes that are gone. Call before reading `dir`, and not while this process has an AtomicDir open on it.
void recover_dir(const std::filesystem::path& dir);

}  // namespace switchyard
