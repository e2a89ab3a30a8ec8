package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.qat.ops.Grad;
import dev.qat.tensor.Fail;
import dev.qat.tensor.Tensor;
import org.junit.jupiter.api.Test;

/** A gradient that products alone will read is written in their type: the fp32 one, rounded. */
class NarrowGradientsTest {
    @Test
    void theyAreTheWideOnesRounded() {
        StandIn.load();
        try (CudaBackend b = new CudaBackend(StandIn.open(), Precision.BF16)) {
            Stage s = new Stage(b);
            for (int n : new int[] {8, 12, 20}) {
                Tensor dy = s.normal("dy", 3, n), gate = s.normal("gate", 3, n), up = s.normal("up", 3, n), angles = s.normal("angles", 2, 9, n / 4),
                        at = s.ints("at", 0, 9, 3);
                Tensor[] wide = {s.empty("dgate", 3, n), s.empty("dup", 3, n), s.empty("dx", 3, n)};
                Tensor[] narrow = new Tensor[3];
                for (int i = 0; i < 3; i++) narrow[i] = b.memory().tensor("narrow", b.operand(), 3, n);
                b.swigluBack(new Grad(wide[0], false), new Grad(wide[1], false), dy, gate, up);
                b.swigluBack(new Grad(narrow[0], false), new Grad(narrow[1], false), dy, gate, up);
                b.ropeBack(new Grad(wide[2], false), dy, angles, at);
                b.ropeBack(new Grad(narrow[2], false), dy, angles, at);
                for (int i = 0; i < 3; i++) assertArrayEquals(Floats.values(Floats.bits(b.memory().floats(wide[i]))), b.memory().floats(narrow[i]), "gradient " + i);
                assertThrows(Fail.class, () -> b.ropeBack(new Grad(narrow[2], true), dy, angles, at));
            }
        }
    }
}
