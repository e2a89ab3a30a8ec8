package dev.qat.method;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cpu.CpuBackend;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.ops.Backend;
import dev.qat.ops.Grid;
import dev.qat.tensor.Fail;
import dev.qat.tensor.PackedWeight;
import dev.qat.tensor.Tensor;
import dev.qat.train.TinyModels;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class GroupAffineTest {
    @TempDir
    Path temp;

    @ParameterizedTest(name = "{0} bits, groups of {1}")
    @CsvSource({"2, 16", "2, 64", "3, 32", "3, -1", "4, 64", "4, 8", "5, 32", "8, -1"})
    void whatIsFrozenIsExactlyWhatWasTrained(int bits, int group) {
        try (Backend be = new CpuBackend(2)) {
            Model m = TinyModels.load(TinyModels.write(temp.resolve("m"), be, 5), be);
            Linear l = m.blocks().getFirst().down;
            GroupAffine q = GroupAffine.install(be, "steps", List.of(l), bits, group, Rule.NONE).getFirst();
            // steps and zero points as training leaves them: off the grid, some zero points beyond its ends
            float[] zero = be.memory().floats(q.params().get(1).value());
            for (int i = 0; i < zero.length; i++) zero[i] += (i % 5 - 2) * 0.7f;
            be.memory().set(q.params().get(1).value(), zero);
            Tensor fake = be.memory().tensor("fake", l.weight.value().dims()), packed = be.memory().tensor("packed", fake.dims());
            be.fakeQuant(fake, l.weight.value(), q.params().get(0).value(), q.params().get(1).value(), Rule.NONE.grid(l, bits, group));
            PackedWeight p = GroupAffine.freeze(be, List.of(q)).getFirst();
            be.dequantize(packed, p, p.step());
            assertArrayEquals(be.memory().floats(fake), be.memory().floats(packed));
            for (float z : be.memory().floats(p.zero())) assertTrue(z >= 0 && z <= (1 << bits) - 1 && z == Math.rint(z), "zero point " + z);
        }
    }

    @Test
    void aGroupThatDoesNotDivideTheRowIsRefusedByName() {
        try (Backend be = new CpuBackend(1)) {
            Model m = TinyModels.load(TinyModels.write(temp.resolve("m"), be, 5), be);
            Fail e = assertThrows(Fail.class, () -> GroupAffine.install(be, "steps", m.linears(), 2, 48, Rule.NONE));
            assertEquals(Fail.USAGE, e.code());
            assertTrue(e.getMessage().contains("48") && e.getMessage().contains("q_proj"), e.getMessage());
        }
    }

    @Test
    void aWholeRowIsOneGroup() {
        try (Backend be = new CpuBackend(1)) {
            Model m = TinyModels.load(TinyModels.write(temp.resolve("m"), be, 5), be);
            assertEquals(new Grid(3, 128), Rule.NONE.grid(m.blocks().getFirst().down, 3, -1));
        }
    }
}
