package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.tensor.Fail;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Real kernels through the real JCuda on the stand-in: right under every order of threads, and their mutants caught. */
class StandInTest {
    private static final long[] SEEDS = {0, 1, 2, 3, 4};
    private JCudaDevice dev;

    @BeforeEach
    void open() {
        StandIn.load();
        dev = StandIn.open();
    }

    @AfterEach
    void close() {
        if (dev == null) return;
        StandIn.reset();
        dev.close();
    }

    // ---- right results -------------------------------------------------------------------------------------------------

    @ParameterizedTest
    @CsvSource({"1, 1", "1, 31", "2, 32", "3, 33", "7, 64", "5, 127", "9, 1000", "33, 257", "4, 4099", "130, 3"})
    void reductionsAreRightOnAwkwardShapesUnderEverySeed(int rows, int columns) {
        float[] x = Floats.normal(rows * columns, 1);
        double[] expected = new double[rows];
        for (int i = 0; i < x.length; i++) expected[i / columns] += x[i];
        long dx = Floats.put(dev, "x", x), dy = dev.alloc("y", 4L * rows);
        float[] first = null;
        for (long seed : SEEDS) {
            StandIn.seed(seed);
            dev.launch("test/reduce", "rowSums", Blocks.cover(rows, 4, 128), dy, dx, rows, columns);
            float[] y = Floats.get(dev, dy, rows);
            assertTrue(Floats.error(y, expected) < 1e-5, "rowSums, seed " + seed);
            if (first != null) assertArrayEquals(first, y, "a fixed order of additions gives the same bits under seed " + seed);
            first = y;
            dev.launch("test/reduce", "blockSums", Blocks.of(rows, 160), dy, dx, 0, columns);
            dev.launch("test/reduce", "blockSums", Blocks.of(rows, 160), dy, dx, 1, columns);
            y = Floats.get(dev, dy, rows);
            for (int r = 0; r < rows; r++) y[r] /= 2;
            assertTrue(Floats.error(y, expected) < 1e-5, "blockSums, seed " + seed);
        }
        StandIn.checkGuards();
    }

    @Test
    void shufflesDownVotesAndIntegerAtomics() {
        float[] x = Floats.normal(100, 2);
        double[] suffix = new double[32];
        for (int i = 31; i >= 0; i--) suffix[i] = x[i] + (i < 31 ? suffix[i + 1] : 0);
        long dx = Floats.put(dev, "x", x), dy = dev.alloc("y", 4 * 32), counts = dev.alloc("counts", 12);
        dev.launch("test/reduce", "warpSuffix", Blocks.of(1, 32), dy, dx);
        assertTrue(Floats.error(Floats.get(dev, dy, 32), suffix) < 1e-6);
        dev.upload(counts, MemorySegment.ofArray(new int[] {0, 0, 1}));
        dev.launch("test/reduce", "votes", Blocks.of(2, 64), counts, dx, x.length);
        int[] got = new int[3];
        dev.download(MemorySegment.ofArray(got), counts);
        int negative = 0;
        for (float v : x) if (v < 0) negative++;
        assertArrayEquals(new int[] {negative, 0, 1}, got);
    }

    @ParameterizedTest
    @CsvSource({"1, 1", "32, 32", "33, 31", "100, 65", "5, 200"})
    void aTransposeIsRightAndItsMutantIsNot(int rows, int columns) {
        float[] x = Floats.normal(rows * columns, 3), expected = new float[x.length];
        for (int i = 0; i < x.length; i++) expected[i % columns * rows + i / columns] = x[i];
        long dx = Floats.put(dev, "x", x), dy = dev.alloc("y", 4L * x.length);
        Kernel good = dev.kernel("test/transpose", "transpose"), mutant = dev.kernel("test/transpose", "transpose", "MUTANT");
        Blocks blocks = Blocks.of(Math.ceilDiv(columns, 32), Math.ceilDiv(rows, 32), 256);
        for (long seed : SEEDS) {
            StandIn.seed(seed);
            dev.launch(good, blocks, dy, dx, rows, columns);
            assertArrayEquals(expected, Floats.get(dev, dy, x.length), "seed " + seed);
            if (x.length == 1) continue;                        // one element is written and read by the same thread
            dev.launch(mutant, blocks, dy, dx, rows, columns);
            float[] y = Floats.get(dev, dy, x.length);
            assertFalse(Arrays.equals(expected, y), "the missing __syncthreads did not show under seed " + seed);
            assertTrue(has(y, Float.NaN), "and it shows as poison");
        }
    }

    @ParameterizedTest
    @CsvSource({"64, 64, 32", "64, 128, 96", "128, 64, 160"})
    void aTensorCoreProductIsRightAndItsMutantsAreNot(int m, int n, int k) {
        short[] a = Floats.bits(Floats.normal(m * k, 4)), b = Floats.bits(Floats.normal(n * k, 5));
        double[] expected = new double[m * n];
        float[] fa = Floats.values(a), fb = Floats.values(b);
        for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) for (int p = 0; p < k; p++)
            expected[i * n + j] += (double) fa[i * k + p] * fb[j * k + p];
        long da = Floats.put(dev, "a", a), db = Floats.put(dev, "b", b), dc = dev.alloc("c", 4L * m * n);
        Blocks blocks = Blocks.of(n / 64, m / 64, 128).shared(2 * 128 * 40 * 2);
        for (long seed : SEEDS) {
            StandIn.seed(seed);
            dev.launch("test/product", "product", blocks, dc, da, db, n, k);
            assertTrue(Floats.error(Floats.get(dev, dc, m * n), expected) < 1e-5, "seed " + seed);
            dev.launch(dev.kernel("test/product", "product", "LATE"), blocks, dc, da, db, n, k);
            assertFalse(Floats.error(Floats.get(dev, dc, m * n), expected) < 1e-5, "no wait for cp.async, seed " + seed);
            if (k < 96) continue;                               // a half is overwritten from the third step on
            dev.launch(dev.kernel("test/product", "product", "UNGUARDED"), blocks, dc, da, db, n, k);
            assertFalse(Floats.error(Floats.get(dev, dc, m * n), expected) < 1e-5, "a half overwritten early, seed " + seed);
        }
        StandIn.checkGuards();
    }

    @Test
    void theTransposingLoadFeedsARowMajorOperand() {
        short[] a = Floats.bits(Floats.normal(256, 6)), b = Floats.bits(Floats.normal(128, 7));
        double[] expected = new double[128];
        for (int i = 0; i < 16; i++) for (int j = 0; j < 8; j++) for (int p = 0; p < 16; p++)
            expected[i * 8 + j] += (double) Floats.values(a)[i * 16 + p] * Floats.values(b)[p * 8 + j];
        long da = Floats.put(dev, "a", a), db = Floats.put(dev, "b", b), dc = dev.alloc("c", 512);
        dev.launch("test/product", "rowMajorB", Blocks.of(1, 32), dc, da, db);
        assertTrue(Floats.error(Floats.get(dev, dc, 128), expected) < 1e-6);
    }

    @Test
    void fibersOfTheCLibraryDoTheSame() {
        float[] x = Floats.normal(33 * 40, 8);
        long dx = Floats.put(dev, "x", x), dy = dev.alloc("y", 4L * 33);
        dev.launch("test/reduce", "rowSums", Blocks.cover(33, 4, 128), dy, dx, 33, 40);
        float[] own = Floats.get(dev, dy, 33);
        dev.launch(dev.kernel("test/reduce", "rowSums", "SIMT_UCONTEXT"), Blocks.cover(33, 4, 128), dy, dx, 33, 40);
        assertArrayEquals(own, Floats.get(dev, dy, 33));
    }

    // ---- mistakes are found --------------------------------------------------------------------------------------------

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "misaligned     | 32 | MISALIGNED_ADDRESS | common.cuh:",
        "twoBarriers    | 64 | LAUNCH_FAILED      | while others of its block wait at test/wrong.cu",
        "lonelyLane     | 32 | LAUNCH_FAILED      | wait at __syncthreads",
        "follow         | 1  | ILLEGAL_ADDRESS    | an access to memory that is not there",
    })
    void aMistakeEndsTheKernelWithASentence(String kernel, int threads, String name, String text) {
        long x = Floats.put(dev, "x", new float[256]);
        if (kernel.equals("follow")) dev.upload(x, MemorySegment.ofArray(new long[] {x}));
        dev.launch("test/wrong", kernel, Blocks.of(1, threads), x);
        fails(name, text, "The last kernel launched was test/wrong.cu " + kernel);
    }

    @Test
    void strayAddressesArithmeticAndStacksEndTheKernelNotTheMachine() {
        long x = Floats.put(dev, "x", new float[256]);
        dev.launch("test/wrong", "stray", Blocks.of(1, 1), x, 1L << 33);
        fails("ILLEGAL_ADDRESS", "an access to memory that is not there");
        StandIn.reset();
        dev.launch("test/wrong", "endless", Blocks.of(1, 1), x, 1000);
        fails("ILLEGAL_ADDRESS", "a thread's stack overflowed");
        StandIn.reset();
        dev.launch("test/wrong", "divide", Blocks.of(1, 1), x);
        fails("LAUNCH_FAILED", "an integer division by zero");
        StandIn.reset();
        dev.launch("test/wrong", "crooked", Blocks.of(1, 32), x, 8);
        fails("ILLEGAL_ADDRESS", "test/wrong.cu:", "index 8 is beyond the array's bounds");
        StandIn.reset();
        dev.launch("test/wrong", "dynamicOverrun", Blocks.of(1, 1).shared(40), x, 10);
        fails("ILLEGAL_ADDRESS", "a write 0 bytes beyond the 40 bytes of dynamic shared memory");
        StandIn.reset();
        dev.launch("test/wrong", "dynamicOverrun", Blocks.of(1, 1).shared(44), x, 10);
        dev.launch("test/reduce", "rowSums", Blocks.of(1, 32), x, x, 1, 3);       // and after all that, kernels run
        dev.sync();
    }

    private void fails(String... texts) {
        Fail fail = assertThrows(Fail.class, dev::sync);
        assertEquals(Fail.DEVICE, fail.code());
        for (String text : texts) assertTrue(fail.getMessage().contains(text), () -> text + " in: " + fail.getMessage());
    }

    @Test
    void aGuardWordTellsOfAnOverrun() {
        long x = dev.alloc("x", 400);
        dev.launch("test/wrong", "overrun", Blocks.of(1, 2), x, 98);
        dev.sync();
        assertNull(StandIn.harm());
        dev.launch("test/wrong", "overrun", Blocks.of(1, 2), x, 99);
        String harm = StandIn.harm();
        assertTrue(harm.matches("4 guard bytes overwritten; allocation \\d+ of 400 bytes: 0 bytes beyond its end.*"), harm);
        dev.launch("test/wrong", "overrun", Blocks.of(1, 1), x, -1);
        dev.free(x);                                                              // a free looks, too
        harm = StandIn.harm();
        assertTrue(harm.contains("4 bytes before its start"), harm);
        assertNull(StandIn.harm());
    }

    @Test
    void whatNobodyWroteIsPoison() {
        long x = dev.alloc("x", 4 * 64);
        int[] words = new int[64];
        dev.download(MemorySegment.ofArray(words), x);
        for (int w : words) assertEquals(StandIn.POISON, w);
        assertTrue(Float.isNaN(Float.intBitsToFloat(StandIn.POISON)) && Float.isNaN(Float.intBitsToFloat(StandIn.POISON << 16)));
        dev.upload(x, MemorySegment.ofArray(new float[64]));
        dev.launch("test/wrong", "unwritten", Blocks.of(1, 64), x);
        for (float f : Floats.get(dev, x, 64)) assertTrue(Float.isNaN(f), "shared memory");
        MemorySegment pinned = dev.pinned("staging", 64);
        assertTrue(Float.isNaN(pinned.get(ValueLayout.JAVA_FLOAT, 0)), "pinned memory");
        float[] from = Floats.normal(128, 9);
        long dx = Floats.put(dev, "from", from), dy = dev.alloc("to", 256);
        dev.launch("test/wrong", "early", Blocks.of(1, 32), dy, dx);
        float[] y = Floats.get(dev, dy, 64);
        int nothing = 0;
        for (int i = 0; i < 32; i++) {
            if (Float.isNaN(y[i])) nothing++;
            assertEquals(from[4 * i], y[32 + i]);
        }
        assertTrue(nothing > 5 && nothing < 27, "before the wait about half of the cp.async have brought nothing: " + nothing);
    }

    @Test
    void deviceAddressesAreNoHostAddresses() {
        long x = dev.alloc("x", 4096), y = dev.alloc("y", 1);
        assertTrue(x > StandIn.AWAY && y > StandIn.AWAY, "2^62 and more: not an address on any host, an access faults");
        assertEquals(0, x % 256);
        assertEquals(0, y % 256);
        long dy = y;
        try (Arena arena = Arena.ofConfined()) {
            dev.launch("test/reduce", "warpSuffix", Blocks.of(1, 32), x, arena.allocate(128).address());
        }
        fails("ILLEGAL_ADDRESS", "parameter 2 is not the address of live device memory");
        StandIn.reset();
        dev.free(dy);
        dev.launch("test/reduce", "warpSuffix", Blocks.of(1, 32), x, dy);
        fails("ILLEGAL_ADDRESS", "parameter 2 is not the address of live device memory");
    }

    // ---- streams, graphs, counters, faults -----------------------------------------------------------------------------

    @Test
    void aForgottenEventShowsAsStaleData() {
        float[] x = Floats.normal(32, 10);
        MemorySegment staging = dev.pinned("staging", 128).copyFrom(MemorySegment.ofArray(x));
        long dx = dev.alloc("x", 128), dy = dev.alloc("y", 4);
        dev.upload(Device.Lane.UPLOAD, dx, staging);
        dev.launch("test/reduce", "rowSums", Blocks.of(1, 32), dy, dx, 1, 32);
        dev.sync(Device.Lane.COMPUTE);
        assertTrue(Float.isNaN(Floats.get(dev, dy, 1)[0]), "the kernel did not wait for the upload");
        dev.sync();

        staging.copyFrom(MemorySegment.ofArray(x));
        try (Device.Event there = dev.event(); Device.Event done = dev.event()) {
            dev.upload(Device.Lane.UPLOAD, dx, staging);
            there.record(Device.Lane.UPLOAD);
            there.hold(Device.Lane.COMPUTE);
            dev.launch("test/reduce", "rowSums", Blocks.of(1, 32), dy, dx, 1, 32);
            done.record(Device.Lane.COMPUTE);
            done.hold(Device.Lane.DOWNLOAD);
            dev.download(Device.Lane.DOWNLOAD, staging.asSlice(0, 4), dy);
            dev.sync(Device.Lane.DOWNLOAD);
            double sum = 0;
            for (float v : x) sum += v;
            assertEquals(sum, staging.get(ValueLayout.JAVA_FLOAT, 0), 1e-5);
            assertTrue(there.reached() && done.reached());
            assertTrue(done.millisSince(there) >= 0);
            done.record(Device.Lane.COMPUTE);
            int asked = 1;
            while (!done.reached()) asked++;
            assertTrue(asked < 1000, "asking for an event again and again comes to an end");
            done.await();
        }
    }

    /** y = rowSums(x), y2 = transpose of copies, c = a product, all in one go. */
    private void step(long y, long x, long z, long c) {
        dev.fill(z, 0, 64 * 64);
        dev.copy(z, x, 4 * 32 * 64);
        dev.launch("test/reduce", "rowSums", Blocks.cover(64, 4, 128), y, z, 64, 64);
        dev.gemm(Device.Form.NT, 64, 64, 64, .5f, matrix(x), matrix(z), 0, matrix(c));
        dev.launch("test/reduce", "blockSums", Blocks.of(64, 64), y, c, 1, 64);
        dev.fill(z, (byte) 1, 16);
    }

    private static Device.Matrix matrix(long p) {
        return new Device.Matrix(p, Device.Kind.F32, 64);
    }

    @Test
    void aReplayedCaptureIsTheEagerStep() {
        long x = Floats.put(dev, "x", Floats.normal(64 * 64, 11)), y = dev.alloc("y", 256), z = dev.alloc("z", 4 * 64 * 64), c = dev.alloc("c", 4 * 64 * 64);
        step(y, x, z, c);
        float[] eagerY = Floats.get(dev, y, 64), eagerC = Floats.get(dev, c, 64 * 64);
        dev.fill(y, 0, 64);
        dev.fill(c, 0, 64 * 64);
        dev.sync();
        try (Device.Graph graph = dev.capture(() -> step(y, x, z, c))) {
            assertEquals(6, graph.nodes());
            for (float v : Floats.get(dev, y, 64)) assertEquals(0, v, "capturing does not run");
            var before = StandIn.counters();
            graph.launch();
            graph.launch();
            var after = StandIn.counters();
            assertArrayEquals(eagerY, Floats.get(dev, y, 64));
            assertArrayEquals(eagerC, Floats.get(dev, c, 64 * 64));
            assertEquals(2, after.graphLaunches() - before.graphLaunches());
            assertEquals(before.launches(), after.launches());
            assertEquals(before.gemms(), after.gemms());
            assertEquals(before.syncs(), after.syncs());
            assertEquals(before.downloads(), after.downloads());
            assertEquals(before.allocs(), after.allocs());
            assertEquals(4, StandIn.counters().kernels() - before.kernels(), "a replay does run its kernels");
        }
        StandIn.checkGuards();
    }

    @Test
    void aCaptureForbidsAllocatingAndWaiting() {
        long y = dev.alloc("y", 256);
        dev.kernel("test/reduce", "rowSums");
        forbidden(() -> dev.alloc("more", 64), "allocating 64 bytes for more");
        forbidden(() -> dev.pinned("more", 64), "pinning 64 bytes for more");
        forbidden(dev::sync, "waiting for the device");
        forbidden(() -> dev.sync(Device.Lane.COMPUTE), "waiting for the compute lane");
        forbidden(() -> Floats.get(dev, y, 1), "copying 4 bytes");
        forbidden(() -> dev.kernel("test/transpose", "transpose"), "loading test/transpose.cu");
        try (Device.Event e = dev.event()) {
            e.record(Device.Lane.UPLOAD);
            forbidden(() -> e.hold(Device.Lane.COMPUTE), "holding a lane");
        }
        dev.launch("test/reduce", "rowSums", Blocks.of(1, 32), y, y, 1, 3);        // and then all is as before
        dev.sync();
    }

    private void forbidden(Runnable deed, String doing) {
        Fail fail = assertThrows(Fail.class, () -> dev.capture(deed));
        assertTrue(fail.getMessage().contains(doing) && fail.getMessage().contains("CAPTURE"), fail::getMessage);
        Fail swallowed = assertThrows(Fail.class, () -> dev.capture(() -> assertThrows(Fail.class, deed::run)), "a spoiled capture ends in an error");
        assertTrue(swallowed.getMessage().contains("CAPTURE_INVALIDATED"), swallowed::getMessage);
    }

    @Test
    void anExceptionInACaptureLeavesTheDeviceAsItWas() {
        long y = dev.alloc("y", 4);
        var mine = assertThrows(IllegalStateException.class, () -> dev.capture(() -> {
            dev.fill(y, 0, 1);
            throw new IllegalStateException("mine");
        }));
        assertEquals("mine", mine.getMessage());
        dev.fill(y, 5, 1);
        assertEquals(5, Float.floatToRawIntBits(Floats.get(dev, y, 1)[0]));
    }

    @Test
    void countersCount() {
        var start = StandIn.counters();
        assertEquals(Device.WORKSPACE, start.liveBytes(), "a device holds cuBLAS' workspace from its first moment");
        long a = dev.alloc("a", 1000), b = dev.alloc("b", 24);
        dev.upload(a, MemorySegment.ofArray(new byte[100]));
        dev.copy(b, a, 24);
        dev.fill(b, 0, 6);
        dev.download(MemorySegment.ofArray(new byte[10]), b);
        MemorySegment pinned = dev.pinned("p", 77);
        dev.free(a);
        dev.launch("test/reduce", "rowSums", Blocks.of(1, 32), b, b, 1, 3);
        dev.gemm(Device.Form.NN, 1, 1, 1, 1, matrix(b), matrix(b), 0, matrix(b));
        var c = StandIn.counters();
        assertEquals(Device.WORKSPACE + 24, c.liveBytes());
        assertEquals(Device.WORKSPACE + 1024, c.peakBytes());
        assertEquals(77, c.pinnedBytes());
        assertArrayEquals(new long[] {2, 1, 1, 1, 1, 1, 100, 10, 1, 1, 2},
            new long[] {c.allocs() - start.allocs(), c.frees(), c.uploads(), c.downloads(), c.copies(), c.fills(), c.uploadedBytes(),
                c.downloadedBytes(), c.launches(), c.gemms(), c.syncs()});
        assertEquals(0, c.kernels(), "a launch is not a run: nobody has waited yet");
        dev.sync();
        assertEquals(1, StandIn.counters().kernels());
        dev.unpin(pinned);
        assertEquals(0, StandIn.counters().pinnedBytes());
        assertEquals(c.liveBytes(), dev.slabs().stream().mapToLong(s -> s.bytes()).sum());
    }

    @Test
    void faultsOnDemand() {
        long y = Floats.put(dev, "y", new float[64]);
        StandIn.failAllocation(2);
        dev.alloc("first", 8);
        Fail full = assertThrows(Fail.class, () -> dev.alloc("second", 8));
        assertTrue(full.getMessage().startsWith("Out of device memory: second wants 8 bytes"), full::getMessage);
        dev.alloc("third", 8);

        StandIn.failLaunch(2, StandIn.OUT_OF_RESOURCES);
        Blocks blocks = Blocks.of(1, 64);
        dev.launch("test/reduce", "rowSums", blocks, y, y, 1, 3);
        Fail refused = assertThrows(Fail.class, () -> dev.launch("test/reduce", "rowSums", blocks, y, y, 1, 7));
        assertTrue(refused.getMessage().contains("test/reduce.cu rowSums <<<(1, 1, 1), 64, 0>>>(y = 0x%x, x = 0x%x, R = 1, C = 7)".formatted(y, y))
            && refused.getMessage().contains("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701)"), refused::getMessage);
        dev.sync();

        StandIn.failKernel(1, StandIn.LAUNCH_FAILED);
        dev.launch("test/reduce", "rowSums", blocks, y, y, 1, 3);
        fails("waiting for the device", "CUDA_ERROR_LAUNCH_FAILED", "rowSums", "QAT_CUDA_SYNC=1");
        assertThrows(Fail.class, () -> dev.fill(y, 0, 1), "a broken context stays broken");
        StandIn.reset();
        dev.sync();
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1})
    void otherThreadsMayCall(int lane) throws InterruptedException {
        long y = dev.alloc("y", 4 * 1024);
        MemorySegment from = dev.pinned("from", 4 * 1024).fill((byte) 0);
        Throwable[] thrown = new Throwable[1];
        Thread other = new Thread(() -> {
            try {
                dev.upload(Device.Lane.values()[lane], y, from);
                dev.sync(Device.Lane.values()[lane]);
            } catch (Throwable t) {
                thrown[0] = t;
            }
        });
        other.start();
        other.join();
        assertNull(thrown[0]);
        assertArrayEquals(new float[1024], Floats.get(dev, y, 1024));
    }

    private static boolean has(float[] x, float v) {
        for (float f : x) if (Float.compare(f, v) == 0 || f != f && v != v) return true;
        return false;
    }
}
