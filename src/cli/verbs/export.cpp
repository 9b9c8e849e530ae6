// switchyard export: write a model in the layout of a published family
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/size_text.h"
#include "cli/verb.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

struct ExportOptions {
  std::string model, out;
  SaveOptions save;
  std::string max_shard_size = "5GB";
};

void export_model(ExportOptions opt) {
  opt.save.max_shard_bytes = parse_size("--max-shard-size", opt.max_shard_size);
  if (std::filesystem::exists(opt.out) && !std::filesystem::is_empty(opt.out))
    fail(ErrorKind::usage, "{} exists and is not empty; export writes to a new folder", opt.out);
  save_checkpoint(load_checkpoint(find_model(opt.model)), opt.out, opt.save);
  print_result("{}\n", opt.out);
}

}  // namespace

VerbEntry verb_export() {
  return {"export", 90, "Write a model in the layout of a published family (Hugging Face format)", [](CLI::App& verb) {
            auto opt = std::make_shared<ExportOptions>();
            verb.add_option("model", opt->model, "model folder")->required()->type_name("MODEL-DIR");
            verb.add_option("out", opt->out, "folder to be made")->required()->type_name("DIR");
            verb.add_option("--family", opt->save.family, "auto, switchyard, or one of `switchyard list families`")->type_name("FAMILY");
            verb.add_option("--dtype", opt->save.dtype, "of the stored weights")->type_name("float32|bfloat16|float16");
            verb.add_option("--max-shard-size", opt->max_shard_size, "largest file of tensors: 500MB, 5GB, 2GiB")->type_name("SIZE");
            verb.footer("Examples:\n  switchyard export runs/demo/best exported --family mixtral --dtype bfloat16\n"
                        "  switchyard export runs/demo/best exported --max-shard-size 500MB");
            verb.callback([opt] { export_model(*opt); });
          }};
}

}  // namespace switchyard::cli
