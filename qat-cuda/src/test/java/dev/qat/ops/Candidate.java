package dev.qat.ops;

import dev.qat.cpu.CpuBackend;
import dev.qat.cpu.ReferenceBackend;
import dev.qat.tensor.DType;
import java.util.List;
import java.util.function.Supplier;

/**
 * A backend that must keep the op contract.
 *
 * @param plain   relative error allowed per root of a sum's length where arithmetic is fp32
 * @param product the same where an op's inner products may round to the operand type
 */
record Candidate(String name, Supplier<Backend> make, double plain, double product) {
    private static final double FP32 = 1e-6, BF16 = 1e-2;

    static Candidate fp32(String name, Supplier<Backend> make) {
        return new Candidate(name, make, FP32, FP32);
    }

    /** A backend whose products read BF16: looser only in ops that round in their middle. */
    static Candidate bf16(String name, Supplier<Backend> make) {
        return new Candidate(name, make, FP32, BF16);
    }

    /** All backends under contract: to add one, add its line. */
    static List<Candidate> all() {
        return List.of(
                fp32("reference", ReferenceBackend::new),
                bf16("reference with BF16 operands", () -> new ReferenceBackend(DType.BF16)),
                fp32("cpu on one thread", () -> new CpuBackend(1)),
                fp32("cpu on three threads", () -> new CpuBackend(3)));
    }

    @Override
    public String toString() {
        return name;
    }
}
