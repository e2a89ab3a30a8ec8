package dev.qat.train;

import dev.qat.cpu.CpuBackend;
import dev.qat.cpu.MatVec;
import dev.qat.export.FrozenDir;
import dev.qat.export.Lattice;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.ops.Backend;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * Decoding from the packed trits that a run left beside its weights: products are additions of rounded activations ({@link MatVec}), on
 * the CPU. Everything else, and every other model, computes with the weights.
 */
public final class PackedDecoding {
    private PackedDecoding() {}

    /** Puts the trits that lie in a model's directory to use, and says for how many linears. */
    public static int use(Model model, Path dir, Backend backend) {
        if (!(backend instanceof CpuBackend cpu) || !FrozenDir.hasCodes(dir)) return 0;
        try (FrozenDir codes = FrozenDir.open(dir)) {
            return use(model, codes, cpu);
        }
    }

    private static int use(Model model, FrozenDir codes, CpuBackend cpu) {
        MatVec products = new MatVec(cpu);
        Set<String> quantized = new HashSet<>(codes.quantized());
        int used = 0;
        for (Linear l : model.linears()) {
            Lattice lattice = quantized.contains(l.name) ? codes.lattice(l.name) : null;
            if (lattice == null || !ternary(lattice)) continue;
            PackedWeight p = lattice.upload(cpu.memory());
            MatVec.Trits trits = MatVec.Trits.of(p, cpu);
            for (Tensor part : List.of(p.words(), p.step(), p.zero())) cpu.memory().free(part.address);
            l.direct = (t, x, bias, plus) -> {
                Tensor y = t.alloc("linear", x.rows(), trits.rows());
                if (t.backend() == cpu) products.times(y, trits, x, bias, plus); // else only its shape is wanted
                return y;
            };
            used++;
        }
        return used;
    }

    /** Whether codes are 0, 1 and 2 about a zero point of 1, in groups that the products take. */
    private static boolean ternary(Lattice l) {
        if (l.bits() != 2 || l.minimum() || l.bias() != null || !MatVec.Trits.fits(l.group())) return false;
        for (float z : l.zero()) if (z != 1) return false;
        for (int word : l.words()) if ((word & word >>> 1 & 0x55555555) != 0) return false;
        return true;
    }
}
