// The encoder of a model of two stacks, as a specification of its own.
#pragma once

#include "switchyard/model_spec.h"

namespace switchyard {

// What the encoder is made of: the model without its decoder. Its embedding counts as that of the model.
[[nodiscard]] ModelSpec encoder_spec(const ModelSpec& model);

// Throws Error{config} when a model has an encoder that nobody reads, or reads a source that nobody encodes. Resolves the encoder.
void resolve_encoder(ModelSpec& model);

// Throws Error{unsupported}: `what` works with models of one stack only.
void refuse_encoder(const ModelSpec& model, const char* what);

// The transformer block of a published model that an entry of the decoder's (or encoder's) pattern belongs to, from 0: a block begins with
// attention to its own stack, what follows (attention to the source, networks) is in it.
[[nodiscard]] int64_t block_of_layer(const ModelSpec& stack, int64_t layer);

}  // namespace switchyard
