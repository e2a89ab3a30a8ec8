package dev.qat.export;

import java.nio.file.Path;
import java.util.List;

/**
 * What an export wrote.
 *
 * @param bytes         of the tensors' files
 * @param bitsPerWeight of the linears, scales and zero points counted
 * @param maxScaleMove  the largest |fp16(step) − step| / |step|
 * @param maxOffsetMove the largest shift of a group's offset by rounding, in steps (Q4_1's minimum; 0 elsewhere)
 * @param moved         what re-quantization changed, or null where every code was written as it is
 * @param tensors       each tensor as it is stored
 * @param remarks       sentences a user should read
 */
public record Report(String target, Path path, long bytes, double bitsPerWeight, double maxScaleMove, double maxOffsetMove, Moved moved,
                     List<Stored> tensors, List<String> remarks) {
    /** A tensor, its type as the format names it, and its size. */
    public record Stored(String name, String type, long count, long bytes) {}

    /** @param share of the linears' weights that changed by more than 1/1024, beyond a step's rounding to fp16  @param rmse of the change, relative to the weights */
    public record Moved(double share, double rmse) {}

    /** Bits per parameter of the whole file. */
    public double bitsPerParameter() {
        return 8.0 * bytes / tensors.stream().mapToLong(Stored::count).sum();
    }
}
