package dev.qat.train;

import dev.qat.cpu.CpuBackend;
import dev.qat.cpu.ReferenceBackend;
import dev.qat.ops.Backend;
import dev.qat.tensor.Fail;

/** Opens the backend a recipe names. */
public final class Backends {
    private Backends() {}

    public static Backend open(String name, int threads) {
        return switch (name) {
            case "auto", "cpu" -> new CpuBackend(threads);
            case "reference" -> new ReferenceBackend();
            default -> throw Fail.usage("backend = %s, expected auto, cpu or reference", name);
        };
    }
}
