// How a model is trained: everything in [train] of a recipe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

// AdamW (arXiv:1711.05101): decoupled weight decay, bias-corrected moments.
struct OptimizerOptions {
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  bool decay_embeddings = true;
  bool decay_router = true;
  std::vector<std::string> train_only = {}, freeze = {};  // regular expressions over names of parameters
  double router_lr_scale = 1;

  template <class V> void fields(V&& v) {
    v("lr", lr, "peak learning rate");
    v("beta1", beta1, "decay of the first moment");
    v("beta2", beta2, "decay of the second moment");
    v("eps", eps, "added to the root of the second moment");
    v("weight_decay", weight_decay, "of matrices; vectors (norms, biases) have none");
    v("decay_embeddings", decay_embeddings, "weight decay on the embedding and the head");
    v("decay_router", decay_router, "weight decay on the routers");
    v("train_only", train_only, "only parameters whose names one of these regular expressions is found in are trained; empty = all");
    v("freeze", freeze, "those whose names one of these is found in are not");
    v("router_lr_scale", router_lr_scale, "learning rate of the routers over that of the rest; 0 = routes are frozen");
  }
};

// Factor of the peak learning rate over the steps; steps/schedule.h has the formulas.
struct ScheduleOptions {
  std::string kind = "cosine";
  int64_t warmup_steps = 100;
  double min_lr_ratio = 0.1;
  double decay_fraction = 0.2;
  std::string decay_shape = "linear";

  template <class V> void fields(V&& v) {
    v("kind", kind, "cosine, linear, wsd (warm-up, stable, decay) or constant");
    v("warmup_steps", warmup_steps, "steps of linear warm-up");
    v("min_lr_ratio", min_lr_ratio, "final over peak learning rate");
    v("decay_fraction", decay_fraction, "wsd: share of the steps that decay");
    v("decay_shape", decay_shape, "wsd: linear or sqrt (1 - square root)");
  }
};

// Several passes over each batch whose predictions are drawn together; steps/consistency.h has the formula.
struct ConsistencyOptions {
  int64_t passes = 1;
  double alpha = 1;

  template <class V> void fields(V&& v) {
    v("passes", passes, "forward passes per batch, each with its own random draws: 1 or 2");
    v("alpha", alpha, "weight of the disagreement of two passes");
  }
};

// Routers that learn from a surrogate of the loss; steps/router_tuning.h has the formulas.
struct RouterTuningOptions {
  int64_t steps = 0;
  double target = 0.5, lambda = 10;
  std::vector<double> latency;
  double lr = 1e-2;
  double threshold = 0.1;
  int64_t hidden = 64;
  double surrogate_lr = 1e-2;

  template <class V> void fields(V&& v) {
    v("steps", steps, "optimiser steps with the surrogate; afterwards routers learn with the model. 0 = all of them");
    v("target", target, "expected latency of the routed layers, as a share of that of their most expensive experts");
    v("lambda", lambda, "weight of |latency - target|, in nats");
    v("latency", latency, "latency of each expert of a layer, as measured; empty = in proportion to its FLOPs");
    v("lr", lr, "learning rate of the routers");
    v("threshold", threshold, "routers move while the mean squared error of the surrogate (nats^2) is below this");
    v("hidden", hidden, "inner width of the surrogate");
    v("surrogate_lr", surrogate_lr, "learning rate of the surrogate");
  }
};

struct TrainOptions {
  int64_t steps = 1000;
  int64_t batch_size = 16;
  int64_t seq_len = 256;
  int64_t micro_batch = 0;
  std::string compute = "auto";
  OptimizerOptions optimizer = {};
  ScheduleOptions schedule = {};
  ConsistencyOptions consistency = {};
  std::optional<RouterTuningOptions> router_tuning = {};
  double grad_clip = 1.0;
  int64_t log_every = 10;
  int64_t eval_every = 100;
  int64_t eval_tokens = 0;
  int64_t checkpoint_every = 500;
  bool activation_checkpointing = false;
  int64_t threads = 0;

  // Sequences of one forward and backward pass.
  [[nodiscard]] int64_t micro_batch_size() const { return micro_batch == 0 ? batch_size : micro_batch; }
  [[nodiscard]] int64_t micro_batches() const { return batch_size / micro_batch_size(); }

  template <class V> void fields(V&& v) {
    v("steps", steps, "optimiser steps");
    v("batch_size", batch_size, "sequences per optimiser step");
    v("seq_len", seq_len, "tokens per sequence");
    v("micro_batch", micro_batch, "sequences per forward pass, gradients are accumulated; 0 = batch_size");
    v("compute", compute, "arithmetic of matrix products: bfloat16, float32, or auto (bfloat16 on CPUs with AMX); weights stay float32");
    v("optimizer", optimizer, "AdamW");
    v("schedule", schedule, "learning rate over the steps");
    v("consistency", consistency, "two passes that must agree, for experts that are drawn at random");
    v("router_tuning", router_tuning, "routers meet a latency target, led by a surrogate of the loss (Flextron); off unless the table is there");
    v("grad_clip", grad_clip, "largest global gradient norm; 0 = no clipping");
    v("log_every", log_every, "steps between lines of metrics.jsonl");
    v("eval_every", eval_every, "steps between evaluations; 0 = only at the end");
    v("eval_tokens", eval_tokens, "validation tokens of an evaluation during training; 0 = all. The last one takes all");
    v("checkpoint_every", checkpoint_every, "steps between checkpoints; 0 = only at the end");
    v("activation_checkpointing", activation_checkpointing, "recompute activations in backward: less memory, more time");
    v("threads", threads, "CPU threads; 0 = all");
  }
};

}  // namespace switchyard
