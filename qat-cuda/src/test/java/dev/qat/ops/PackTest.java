package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import dev.qat.tensor.DType;
import dev.qat.tensor.Memory;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** What is shipped is what was trained: dequantize(pack(w)) has the bits of fakeQuant(w), for every width, size and special value. */
class PackTest {
    @TestFactory
    Stream<DynamicTest> packingLosesNothing() {
        return Candidate.all().stream().map(candidate -> dynamicTest(candidate.name(), () -> {
            try (Backend b = candidate.make().get()) {
                Row row = OpTable.rows().stream().filter(r -> r.op.equals("fakeQuant")).findFirst().orElseThrow();
                for (Size size : row.sizes) {
                    List<Special> values = new ArrayList<>(row.specials);
                    values.add(Special.NONE);
                    for (Special special : values) check(b, row.build(size, special));
                }
            }
        }));
    }

    private static void check(Backend b, Case c) {
        Grid grid = (Grid) c.<Arg.Fixed>arg("grid").value();
        Tensor w = tensor(b, c.arg("w")), step = tensor(b, c.arg("step")), zero = tensor(b, c.arg("zero"));
        Memory m = b.memory();
        Tensor trained = m.tensor("trained", b.operand(), w.dims()), shipped = m.tensor("shipped", b.operand(), w.dims());
        PackedWeight packed = new PackedWeight("w", grid.bits(), grid.group(), w.cols(),
                m.tensor("words", DType.I32, w.rows(), PackedWeight.wordsPerRow(w.cols(), grid.bits())), m.tensor("s", step.dims()), m.tensor("z", zero.dims()), null);
        b.fakeQuant(trained, w, step, zero, grid);
        b.pack(packed, w, step, zero);
        b.dequantize(shipped, packed, packed.step());
        b.sync();
        assertArrayEquals(m.floats(trained), m.floats(shipped), c.toString());
        for (float z : m.floats(packed.zero())) assertEquals(Math.clamp(Math.rint(z), 0, grid.maxCode()), z, c + ": a zero point off its grid");
        padding(c, m.ints(packed.words()), packed);
    }

    /** The bits behind the last code of every row are zero. */
    private static void padding(Case c, int[] words, PackedWeight p) {
        int perRow = (int) p.words().cols(), used = (int) (p.cols() * p.bits() % 32);
        for (int r = 0; used != 0 && r < p.rows(); r++) assertEquals(0, words[(r + 1) * perRow - 1] >>> used, c + ": padding of row " + r);
    }

    private static Tensor tensor(Backend b, Arg.In in) {
        Tensor t = b.memory().tensor(in.name(), in.dims());
        b.memory().set(t, in.values());
        return t;
    }
}
