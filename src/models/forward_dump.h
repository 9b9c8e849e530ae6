// Everything that one forward pass computes, as a file: for people who port models and look for the first difference.
#pragma once

#include "switchyard/language_model.h"

#include <filesystem>
#include <map>
#include <string>

namespace switchyard {

// B sequences of S tokens, T = B * S rows in row-major order, k choices. Floats are float32, ids int64.
//   logits [B,S,V]                          hidden_states.0 [B,S,d] what enters the first layer; hidden_states.i after layer i,
//                                           the last one after the final norm
//   layer.{L-1}.output [B,S,d]              output of the last layer before the final norm
//   moe.{i}.input, moe.{i}.output [B,S,d]   into (after the norm) and out of the MoE layer i
//   moe.{i}.router_logits [T,E]             before noise and normalisation
//   moe.{i}.topk_index, topk_weight [T,k]   chosen experts (-1: none, as for padding) and final weights
//   moe.{i}.combine [T,E]                   the same as a dense matrix
//   moe.{i}.attn.*                          router_logits, topk_* and combine of the experts of a mixer
// A gate without token choices (soft slots, expert choice, mixes) has no topk_* and no combine.
// Of a model with an encoder all but `logits` stands there once per stack, behind `encoder.` and `decoder.`, with blocks (block_of_layer)
// in place of layers, and beside it
//   encoder.last_hidden_state [B,Sm,d]      what the decoder reads
using ForwardDump = std::map<std::string, torch::Tensor>;

// attention_mask [B,S] (1 = token, 0 = padding) and position_ids [B,S] may be undefined. Runs in evaluation mode.
[[nodiscard]] ForwardDump forward_dump(LanguageModel& model, const torch::Tensor& input_ids, const torch::Tensor& attention_mask,
                                       const torch::Tensor& position_ids);
// The same with an encoder: input_ids and their mask [B,Sm] are the source, decoder_input_ids [B,S] the text.
[[nodiscard]] ForwardDump forward_dump_of_two(LanguageModel& model, const torch::Tensor& input_ids, const torch::Tensor& attention_mask,
                                              const torch::Tensor& decoder_input_ids);

// The same with files: `input` holds input_ids and may hold attention_mask and position_ids, all int64 [B,S]; for a model with an
// encoder input_ids, decoder_input_ids and maybe attention_mask.
// `compute` is float32 or bfloat16.
void forward_file(const std::filesystem::path& model_folder, const std::filesystem::path& input, const std::filesystem::path& output,
                  const std::string& compute);

}  // namespace switchyard
