package dev.qat.train;

import dev.qat.cpu.CpuBackend;
import dev.qat.cpu.ReferenceBackend;
import dev.qat.cuda.CudaBackend;
import dev.qat.cuda.JCudaDevice;
import dev.qat.cuda.Precision;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;
import java.util.function.Consumer;

/** Opens the backend a recipe names. */
public final class Backends {
    private Backends() {}

    /** The backend of a recipe; {@code told} hears why auto did not take CUDA. */
    public static Backend open(Recipe r, Consumer<String> told) {
        return switch (r.backend()) {
            case "cpu" -> new CpuBackend(r.threads());
            case "reference" -> new ReferenceBackend();
            case "cuda" -> new CudaBackend(JCudaDevice.open(), r.precision(), r.eager());
            default -> auto(r, told);
        };
    }

    /** By name alone, in the recipe's default precision. */
    public static Backend open(String name, int threads) {
        return switch (name) {
            case "auto", "cpu" -> new CpuBackend(threads);
            case "reference" -> new ReferenceBackend();
            case "cuda" -> new CudaBackend(JCudaDevice.open(), Precision.BF16);
            default -> throw Fail.usage("backend = %s, expected cpu, cuda or reference", name);
        };
    }

    private static Backend auto(Recipe r, Consumer<String> told) {
        try {
            return new CudaBackend(JCudaDevice.open(), r.precision(), r.eager());
        } catch (Fail noDevice) {
            if (noDevice.code() != Fail.DEVICE) throw noDevice;
            told.accept("backend: cpu, as no CUDA device answered (qat doctor says more)");
            return new CpuBackend(r.threads());
        }
    }
}
