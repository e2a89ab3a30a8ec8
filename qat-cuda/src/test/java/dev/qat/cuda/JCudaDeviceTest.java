package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.qat.cuda.Device.Form;
import dev.qat.cuda.Device.Kind;
import dev.qat.cuda.Device.Matrix;
import dev.qat.tensor.Fail;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The device through JCuda: products in every form, and a sentence a user can act on for everything that can be missing. */
class JCudaDeviceTest {
    @ParameterizedTest
    @CsvSource({"1, 1, 1, 1", "3, 5, 7, 1", "17, 33, 130, 1", "64, 48, 600, 1", "5, 9, 3, 4", "33, 16, 65, 3", "130, 400, 20, 1", "4, 5, 0, 1"})
    void aProductIsRightInEveryForm(int m, int n, int k, int batch) {
        try (JCudaDevice dev = StandIn.open()) {
            for (Form form : Form.values()) for (Kind kind : Kind.values()) for (Kind out : List.of(Kind.F32, Kind.BF16)) {
                if (out == Kind.BF16 && kind != Kind.BF16) continue;
                float beta = form == Form.NN ? .5f : 0;
                int pad = form == Form.TN ? 3 : 0;                // rows may be longer than what is multiplied
                boolean ta = form == Form.TN || form == Form.TT, tb = form == Form.NT || form == Form.TT;
                int lda = Math.max(1, ta ? m : k) + pad, ldb = Math.max(1, tb ? k : n) + pad, ldc = n + pad;
                int sa = lda * Math.max(1, ta ? k : m) + 5, sb = ldb * Math.max(1, tb ? n : k) + 1, sc = ldc * m + 2;
                float[] a = Floats.normal(sa * batch, 1), b = Floats.normal(sb * batch, 2), c = Floats.normal(sc * batch, 3);
                if (kind == Kind.BF16) {
                    a = Floats.values(Floats.bits(a));
                    b = Floats.values(Floats.bits(b));
                }
                if (out == Kind.BF16) c = Floats.values(Floats.bits(c));
                double[] expected = new double[c.length];
                for (int i = 0; i < c.length; i++) expected[i] = c[i];
                for (int z = 0; z < batch; z++) for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) {
                    double sum = 0;
                    for (int p = 0; p < k; p++)
                        sum += (double) a[z * sa + (ta ? p * lda + i : i * lda + p)] * b[z * sb + (tb ? j * ldb + p : p * ldb + j)];
                    int at = z * sc + i * ldc + j;
                    expected[at] = 1.25f * sum + beta * c[at];
                }
                long da = put(dev, a, kind), db = put(dev, b, kind), dc = put(dev, c, out);
                dev.gemm(form, m, n, k, 1.25f, new Matrix(da, kind, lda, sa), new Matrix(db, kind, ldb, sb), beta, new Matrix(dc, out, ldc, sc), batch);
                double error = Floats.error(get(dev, dc, c.length, out), expected);
                double tolerance = out == Kind.BF16 ? 5e-3 : kind == Kind.TF32 ? 2e-3 : 1e-5;
                assertTrue(error < tolerance, "%s %s -> %s: %g".formatted(form, kind, out, error));
                if (kind == Kind.TF32 && k > 32 && StandIn.standing()) assertTrue(error > 1e-6, "TF32 does round: " + error);
                dev.free(da);
                dev.free(db);
                dev.free(dc);
            }
            if (StandIn.standing()) StandIn.checkGuards();
        }
    }

    private static long put(Device dev, float[] x, Kind kind) {
        return kind == Kind.BF16 ? Floats.put(dev, "m", Floats.bits(x)) : Floats.put(dev, "m", x);
    }

    private static float[] get(Device dev, long p, int n, Kind kind) {
        if (kind != Kind.BF16) return Floats.get(dev, p, n);
        short[] bits = new short[n];
        dev.download(MemorySegment.ofArray(bits), p);
        return Floats.values(bits);
    }

    @Test
    void aProductThatCannotBeSaysWhichOne() {
        try (JCudaDevice dev = StandIn.open()) {
            long p = dev.alloc("p", 4096);
            Matrix narrow = new Matrix(p, Kind.F32, 2), good = new Matrix(p, Kind.F32, 4);
            String said = assertThrows(Fail.class, () -> dev.gemm(Form.NN, 3, 4, 4, 1, narrow, good, 0, good)).getMessage();
            assertTrue(said.contains("CUBLAS_STATUS_INVALID_VALUE") && said.contains("NN of m = 3, n = 4, k = 4") && said.contains("ld=2"), said);
            said = assertThrows(Fail.class, () -> dev.gemm(Form.NN, 3, 4, 4, 1, good, new Matrix(p, Kind.BF16, 4), 0, good)).getMessage();
            assertTrue(said.contains("F32 and BF16"), said);
        }
    }

    @Test
    void argumentsAreCheckedAgainstTheKernelsText() {
        try (JCudaDevice dev = StandIn.open()) {
            long p = dev.alloc("p", 4096);
            Kernel k = dev.kernel("test/reduce", "rowSums");
            assertEquals("test/reduce.cu rowSums takes 4 arguments, got 3", said(() -> dev.launch(k, Blocks.of(1, 32), p, p, 1)));
            assertEquals("test/reduce.cu rowSums: argument 2, `const float* x`, takes a Long, got Integer 0",
                said(() -> dev.launch(k, Blocks.of(1, 32), p, 0, 1, 1)));
            assertEquals("test/reduce.cu rowSums: argument 4, `int C`, takes a Integer, got Long 1",
                said(() -> dev.launch(k, Blocks.of(1, 32), p, p, 1, 1L)));
            assertTrue(said(() -> dev.kernel("test/reduce", "nothing")).contains("test/reduce.cu declares no `extern \"C\" __global__ void nothing"));
            assertTrue(said(() -> dev.kernel("test/nothing", "x")).contains("no kernel file /kernels/test/nothing.cu"));
            assertTrue(said(() -> dev.free(p + 1)).contains("not allocated"));
            String refused = said(() -> dev.launch("test/transpose", "transpose", Blocks.of(1, 512), p, p, 1, 1));
            assertTrue(refused.contains("test/transpose.cu transpose <<<(1, 1, 1), 512, 0>>>(y = 0x") && refused.contains("CUDA_ERROR_"), refused);
            String greedy = said(() -> dev.launch(k, Blocks.of(1, 32).shared(300 << 10), p, p, 1, 1));
            assertTrue(greedy.contains("asking for 307200 bytes of shared memory"), greedy);
            dev.launch(k, Blocks.of(1, 32).shared(64 << 10), p, p, 1, 1);            // beyond 48 KB: opted in for
            dev.sync();
        }
    }

    @Test
    void parametersAreReadFromPlainText() {
        String text = """
            // extern "C" __global__ void k(int commentedOut)
            template <int D> __device__ float help(float* p) { return p[D]; }
            extern "C" __global__ void __launch_bounds__(128, (2)) k(float* __restrict__ y, /* in */ const unsigned short *x,
                    long long n, i64 m, unsigned int u, float eps, unsigned b) {}
            extern "C" __global__ void none() {}
            extern "C" __global__ void odd(double d) {}
            """;
        assertEquals("y:Long x:Long n:Long m:Long u:Integer eps:Float b:Integer", String.join(" ",
            Kernel.parameters("f", text, "k").stream().map(p -> p.name() + ":" + p.java().getSimpleName()).toList()));
        assertEquals(0, Kernel.parameters("f", text, "none").size());
        assertTrue(said(() -> Kernel.parameters("f", text, "odd")).contains("f.cu odd: parameter `double d`"));
    }

    private static String said(org.junit.jupiter.api.function.Executable deed) {
        return assertThrows(Fail.class, deed).getMessage();
    }

    @Test
    void whatIsHeldIsListedWhenMemoryRunsOut() {
        StandIn.load();
        StandIn.reset();
        StandIn.pretend(1, 8, 0, 12060, 100L << 20);
        try (JCudaDevice dev = JCudaDevice.open(0, StandIn.target().resolve("standin-cache"))) {
            dev.alloc("weights", 60L << 20);
            Fail full = assertThrows(Fail.class, () -> dev.alloc("activations", 10L << 20));
            assertEquals(Fail.DEVICE, full.code());
            String said = full.getMessage();
            assertTrue(said.startsWith("Out of device memory: activations wants 10,485,760 bytes, and 8,388,608 of 104,857,600 are free on stand-in."), said);
            assertTrue(said.indexOf("62,914,560  weights") < said.indexOf("33,554,432  cuBLAS workspace") && said.contains("62,914,560  weights"), said);
            assertEquals(8L << 20, dev.room().free());
        }
    }

    @Test
    void aDeviceThatWillNotDoIsOneSentence() {
        StandIn.load();
        assertEquals("No CUDA device: NVIDIA's driver (libcuda.so.1) is here and sees none. Look at nvidia-smi and CUDA_VISIBLE_DEVICES, "
            + "or use backend: cpu.", pretending(0, 8, 12060));
        assertEquals("NVIDIA's driver (libcuda.so.1) speaks CUDA 11.8 and CUDA 12.0 is needed: install driver 525 or newer, or use backend: cpu.",
            pretending(1, 8, 11080));
        assertEquals("CUDA device 0 has compute capability 7.x and 8.0 is needed (bfloat16 tensor cores): use an A100 or newer, or backend: cpu.",
            pretending(1, 7, 12060));
        StandIn.reset();
        assertEquals("CUDA device 1 was asked for and there are 1, counted from 0.", said(() -> JCudaDevice.open(1, Path.of("unused"))));
    }

    private static String pretending(int devices, int major, int driver) {
        StandIn.reset();
        StandIn.pretend(devices, major, 0, driver, 1 << 30);
        Fail fail = assertThrows(Fail.class, () -> JCudaDevice.open(0, Path.of("unused")));
        assertEquals(Fail.DEVICE, fail.code());
        StandIn.reset();
        return fail.getMessage();
    }

    @Test
    void aDeviceNewerThanNvrtcGetsPtx() {
        StandIn.load();
        StandIn.reset();
        StandIn.pretend(1, 10, 0, 13000, 1L << 30);
        try (JCudaDevice dev = JCudaDevice.open(0, StandIn.target().resolve("standin-cache"))) {
            long x = Floats.put(dev, "x", 1, 2, 3), y = dev.alloc("y", 4);
            dev.launch("test/reduce", "rowSums", Blocks.of(1, 32), y, x, 1, 3);
            assertArrayEquals(new float[] {6}, Floats.get(dev, y, 1));
        }
    }

    /** What a machine without the libraries hears; in a JVM of its own, since a library that is loaded stays. */
    @Test
    void aMissingLibraryIsOneSentence() throws Exception {
        StandIn.load();
        assertTrue(opening("libcuda.so.1", "libcublas.so.12", "libnvrtc.so.12").startsWith("opened stand-in"));
        if (opening("?").equals("there")) {
            System.err.println("\n*** NOT TRIED: this machine has libcuda.so.1, so its absence cannot be shown here. ***\n");
            return;
        }
        assertEquals("69 NVIDIA's driver (libcuda.so.1) was not found. Install NVIDIA's driver, version 525 or newer, and in a container pass the "
            + "device through (--gpus all); backend: cpu needs none.", opening());
        String install = " was not found. Use the image nvidia/cuda:12.6 (runtime), install the CUDA 12 libraries, or build with -Pcuda-redist, "
            + "which brings them; backend: cpu needs none.";
        assertEquals("69 cuBLAS (libcublas.so.12)" + install, opening("libcuda.so.1"));
        assertEquals("69 NVRTC (libnvrtc.so.12)" + install, opening("libcuda.so.1", "libcublas.so.12"));
    }

    /** With QAT_CUDA_SYNC=1 the launch that broke says so itself, with its arguments, however many follow it. */
    @Test
    void waitingForEveryLaunchNamesTheRightOne() throws Exception {
        StandIn.load();
        String late = fork(Map.of(), Breaking.class), now = fork(Map.of("QAT_CUDA_SYNC", "1"), Breaking.class);
        assertTrue(late.startsWith("copying 4 bytes") && late.contains("The last kernel launched was test/reduce.cu rowSums"), late);
        assertTrue(now.startsWith("test/wrong.cu divide <<<(1, 1, 1), 1, 0>>>(x = 0x") && !now.contains("last kernel"), now);
    }

    /** Launches a kernel that breaks and one that does not, then asks for a result. */
    static final class Breaking {
        public static void main(String[] none) {
            try (JCudaDevice dev = StandIn.open()) {
                long x = Floats.put(dev, "x", new float[8]);
                dev.launch("test/wrong", "divide", Blocks.of(1, 1), x);
                dev.launch("test/reduce", "rowSums", Blocks.of(1, 32), x, x, 1, 1);
                Floats.get(dev, x, 1);
            } catch (Fail f) {
                System.out.println(f.getMessage());
            }
        }
    }

    private static String opening(String... libraries) throws Exception {
        return fork(Map.of(), Opening.class, libraries);
    }

    /** The last line that a class says in a JVM of its own. */
    private static String fork(Map<String, String> environment, Class<?> main, String... libraries) throws Exception {
        List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path")));
        if (System.getProperty("qat.root") != null) command.add("-Dqat.root=" + System.getProperty("qat.root"));
        command.add(main.getName());
        for (String l : libraries) command.add(l.equals("?") ? l : StandIn.folder().resolve(l).toString());
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().remove("QAT_CUDA_SYNC");
        builder.environment().putAll(environment);
        Process p = builder.start();
        String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
        assertEquals(0, p.waitFor(), said);
        return said.substring(said.lastIndexOf('\n') + 1);
    }

    /** Loads the libraries named by its arguments and opens a device, saying how that went; "?" asks for NVIDIA's driver. */
    static final class Opening {
        public static void main(String[] libraries) {
            if (List.of(libraries).contains("?")) {
                System.out.println(driver() ? "there" : "missing");
                return;
            }
            for (String l : libraries) System.load(l);
            try (JCudaDevice dev = JCudaDevice.open(0, Path.of("unused"))) {
                System.out.println("opened " + dev.properties().name());
            } catch (Fail f) {
                System.out.println(f.code() + " " + f.getMessage());
            }
        }

        private static boolean driver() {
            try (Arena arena = Arena.ofConfined()) {
                SymbolLookup.libraryLookup("libcuda.so.1", arena);
                return true;
            } catch (IllegalArgumentException e) {
                return false;
            }
        }
    }
}
