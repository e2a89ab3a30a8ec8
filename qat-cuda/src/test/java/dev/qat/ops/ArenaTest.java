package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.tensor.Arena;
import dev.qat.tensor.DType;
import dev.qat.tensor.Fail;
import dev.qat.tensor.HostMemory;
import dev.qat.tensor.Tensor;
import java.util.List;
import org.junit.jupiter.api.Test;

class ArenaTest {
    private final Arena arena = Arena.counting();

    private Tensor alloc(String name, long floats) {
        return arena.alloc(name, DType.F32, floats);
    }

    @Test
    void aStepSeesTheSameAddressesAsTheLast() {
        HostMemory memory = new HostMemory();
        Arena real = Arena.of(memory, "step", 4096);
        long a = real.alloc("a", DType.F32, 3).address, b = real.alloc("b", DType.BF16, 100).address;
        real.release(0);
        assertEquals(a, real.alloc("a", DType.F32, 3).address);
        assertEquals(b, real.alloc("b", DType.BF16, 100).address);
        assertEquals(256, b - a);
        memory.slabs().forEach(s -> memory.free(s.address()));
    }

    @Test
    void releasingOutOfOrderThrows() {
        alloc("outer", 64);
        long outer = arena.mark();
        alloc("inner", 64);
        long inner = arena.mark();
        arena.release(outer);
        assertTrue(assertThrows(Fail.class, () -> arena.release(inner)).getMessage().contains("out of order"));
    }

    @Test
    void releasingIntoTheMiddleOfATensorThrows() {
        alloc("a", 256);
        assertThrows(Fail.class, () -> arena.release(512));
    }

    @Test
    void aFullArenaSaysWhoWantedHowMuch() {
        HostMemory memory = new HostMemory();
        Arena small = Arena.of(memory, "step", 1024);
        small.alloc("a", DType.F32, 128);
        String said = assertThrows(Fail.class, () -> small.alloc("logits", DType.F32, 129)).getMessage();
        assertTrue(said.contains("logits") && said.contains("1,024") && said.contains("768"), said);
        memory.slabs().forEach(s -> memory.free(s.address()));
    }

    @Test
    void thePeakIsKeptWithWhoWasAliveThen() {
        alloc("weights", 64);
        long mark = arena.mark();
        alloc("act", 640);
        alloc("act", 64);
        arena.release(mark);
        alloc("small", 64);
        assertEquals(256 + 2560 + 256, arena.peak());
        assertEquals(List.of(new Arena.Row("act", 2560 + 256), new Arena.Row("weights", 256)), arena.peakTable());
    }

    @Test
    void theTableOfAPeakStillStandingIsThatOfNow() {
        alloc("a", 64);
        alloc("b", 128);
        assertEquals(List.of(new Arena.Row("b", 512), new Arena.Row("a", 256)), arena.peakTable());
    }

    @Test
    void aHigherPeakReplacesTheTableOfALowerOne() {
        alloc("first", 64);
        arena.release(0);
        alloc("second", 64);
        alloc("third", 64);
        arena.release(0);
        assertEquals(List.of("second", "third"), arena.peakTable().stream().map(Arena.Row::name).sorted().toList());
    }
}
