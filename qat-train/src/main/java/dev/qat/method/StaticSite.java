package dev.qat.method;

import dev.qat.model.Site;
import dev.qat.ops.Grid;
import dev.qat.ops.Ops;
import dev.qat.ops.Tape;
import dev.qat.tensor.Param;
import dev.qat.tensor.Tensor;
import java.util.List;

/**
 * One static quantizer for a value and all the sites it passes: one learned step for the whole tensor, whatever its rows.
 *
 * @param sites that see the same value
 */
record StaticSite(String name, List<Site> sites, int bits, long channels) {
    /** Puts the quantizer last on every site; a value is quantized once for all of them. */
    void install(Param step) {
        Once once = new Once(step, bits);
        sites.forEach(s -> s.add(once));
    }

    private static final class Once implements Site.Function {
        private final Param step;
        private final int bits;
        private Tensor last, quantized;

        Once(Param step, int bits) {
            this.step = step;
            this.bits = bits;
        }

        @Override
        public Tensor apply(Tape t, Tensor x) {
            if (x != last) quantized = Ops.lsq(t, x, step.value(), new Grid(bits, Math.toIntExact(x.size())));
            last = x;
            return quantized;
        }
    }
}
