// train: goes on from the checkpoint that comes in, on a text, for a number of steps. Model and tokenizer are those of
// the checkpoint.
#include "base/files.h"
#include "steps/step.h"
#include "steps/train.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

class TrainStep final : public Step {
 public:
  struct Options {
    DataOptions data;
    TrainOptions train;

    template <class V> void fields(V&& v) {
      v("data", data, "what is read");
      v("train", train, "how it is trained");
    }
  };

  explicit TrainStep(Options options) : options_(std::move(options)) {}

  Checkpoint run(Checkpoint checkpoint, const StepContext& context) override {
    if (!checkpoint.model || !checkpoint.tokenizer)
      fail(ErrorKind::config, "step 'train' needs a model with a tokenizer: begin the scheme with a step that makes or loads one");
    std::filesystem::create_directories(context.run_dir);
    const std::filesystem::path tokenizer = context.run_dir / "tokenizer.json";
    write_file_atomic(tokenizer, checkpoint.tokenizer->to_json().dump());
    const Recipe recipe{.name = context.run_dir.filename().string(),
                        .seed = static_cast<int64_t>(context.seed),
                        .data = options_.data,
                        .tokenizer = {.kind = "file", .path = tokenizer.string()},
                        .model = checkpoint.model->spec(),
                        .train = options_.train};
    TrainObserver silent;
    TrainResult result = train(recipe, {.folder = context.run_dir, .from = std::move(checkpoint)}, silent);
    return {.model = result.model, .tokenizer = result.tokenizer, .training_tensors = {}, .training_state = {}};
  }

 private:
  Options options_;
};

}  // namespace

StepEntry step_train() { return plug_in<TrainStep, StepEntry>("train", "", "train on a text with AdamW"); }

}  // namespace switchyard
