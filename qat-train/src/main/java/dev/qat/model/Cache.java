package dev.qat.model;

import dev.qat.tensor.Tensor;
import java.util.List;

/** Keys and values of B sequences while they are decoded: per layer (B, capacity, K·D); positions and lengths I32 (B). */
public record Cache(Tensor table, Tensor positions, Tensor lengths, List<Tensor> keys, List<Tensor> values) {}
