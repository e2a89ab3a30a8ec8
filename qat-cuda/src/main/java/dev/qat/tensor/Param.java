package dev.qat.tensor;

/**
 * Something with a name that may train: its fp32 master value, and what kind of thing it is (which decides its learning rate).
 *
 * <p>{@code value.wants} says whether it trains now; the driver that trains it gives {@code value.grad} its place in a slab.
 */
public record Param(String name, Kind kind, Tensor value) {
    /** What a parameter is to a model; recipes give learning rates per kind. */
    public enum Kind { WEIGHT, GAIN, BIAS, EMBEDDING, HEAD, SCALE, ZERO, TRANSFORM }
}
