package dev.qat.model;

import dev.qat.tensor.Tensor;

/** B sequences of T tokens, each starting at position 0.   table (2, context, D/2)  positions I32 (B·T) */
public record Positions(int B, int T, Tensor table, Tensor positions) {}
